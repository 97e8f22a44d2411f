//! ARM templates: their resources with parameters put in where that is exact, everything else left as an expression.
//! Must not evaluate: one `[parameters('x')]` with a literal value, and names; any other expression stays one.
//! Called by the reader of files; what an expression is needed for is refused by the reader of that resource.

use std::collections::HashMap;

use super::arm::Named;
use super::arm::value::last_segment;
use super::json::{Json, Node};
use super::report::{Kind, Place, Report};

/// A resource of a template, its parameters put in.
#[derive(Debug)]
pub(super) struct Resource {
    /// In lower case, with its provider: `microsoft.network/azurefirewalls`.
    pub(super) kind: String,
    pub(super) value: Json,
    pub(super) named: Named,
    pub(super) at: Place,
}

/// Values by lower-case name; a parameter without a literal value is not in it.
pub(super) type Values = HashMap<String, Json>;

/// The resources of a template, those inside of others and of nested deployments included.
pub(super) fn resources(node: &Node<'_>, given: &Values, report: &mut Report) -> Vec<Resource> {
    let mut all = Vec::new();
    let scope = Scope::of(node, given);
    for key in ["parameters", "variables"] {
        if let Some(declared) = node.find(key)
            && !matches!(declared.value, Json::Map(_))
        {
            declared.refuse(&format!("`{key}` must be an object"), report);
        }
    }
    for name in given.keys() {
        let declared = node
            .find("parameters")
            .is_some_and(|parameters| match parameters.value {
                Json::Map(entries) => entries.iter().any(|(key, _)| key.eq_ignore_ascii_case(name)),
                _ => false,
            });
        if !declared {
            let message = format!("the file of parameters gives `{name}`, which the template does not have");
            report
                .note(Kind::BadValue, &node.at, message)
                .help("Azure would refuse them together: are they of one version?");
        }
    }
    scope.list(node, None, &mut all, report);
    all
}

/// The values of a parameter file.
pub(super) fn values(parameters: &Json) -> Values {
    let Json::Map(entries) = parameters else {
        return Values::new();
    };
    let literal = |(name, held): &(String, Json)| Some((name.to_ascii_lowercase(), held.find("value")?.clone()));
    entries.iter().filter_map(literal).collect()
}

/// The last part of the name that an expression makes, if it is literal: of
/// `[resourceId('Microsoft.Network/firewallPolicies', 'x')]` or `[format('{0}/{1}', parameters('p'), 'x')]` it is `x`.
pub(super) fn resource_name(expression: &str) -> Option<String> {
    let text = Scope::default().text(expression);
    let last = last_segment(&text);
    (!last.contains(UNKNOWN)).then(|| last.to_owned())
}

/// The IP group of the deployment's own resource group that an expression means, as in
/// `[resourceId('Microsoft.Network/ipGroups', 'nodes')]`; one that names another resource group is not understood.
pub(super) fn ip_group(expression: &str) -> Option<String> {
    let (function, arguments) = arguments(inner(expression)?.trim())?;
    let [kind, name] = arguments.as_slice() else {
        return None;
    };
    let (kind, name) = (quoted(kind.trim())?, quoted(name.trim())?);
    let fits = function.eq_ignore_ascii_case("resourceId") && kind.eq_ignore_ascii_case("Microsoft.Network/ipGroups");
    (fits && !name.contains('/')).then_some(name)
}

#[derive(Debug, Default)]
struct Scope {
    parameters: Values,
    variables: Values,
}

impl Scope {
    fn of(template: &Node<'_>, given: &Values) -> Self {
        let mut scope = Self::default();
        if let Some(Json::Map(entries)) = template.value.find("parameters") {
            for (name, declared) in entries {
                let name = name.to_ascii_lowercase();
                let default = declared.find("defaultValue").filter(|value| !has_expression(value));
                let value = given.get(&name).or(default).cloned();
                scope.parameters.extend(value.map(|value| (name, value)));
            }
        }
        if let Some(Json::Map(entries)) = template.value.find("variables") {
            let literal = entries.iter().filter(|(_, value)| !has_expression(value));
            scope
                .variables
                .extend(literal.map(|(name, value)| (name.to_ascii_lowercase(), value.clone())));
        }
        scope
    }

    /// What stands in `resources`, an array or, in newer templates, an object.
    fn list(&self, node: &Node<'_>, parent: Option<(&str, &str)>, all: &mut Vec<Resource>, report: &mut Report) {
        let Some(resources) = node.find("resources") else {
            return;
        };
        match resources.value {
            Json::List(items) => {
                for (index, item) in items.iter().enumerate() {
                    self.one(&Node::new(item, resources.at.item(index)), parent, all, report);
                }
            }
            Json::Map(entries) => {
                for (name, item) in entries {
                    self.one(&Node::new(item, resources.at.key(name)), parent, all, report);
                }
            }
            _ => resources.refuse("`resources` must be an array or an object", report),
        }
    }

    fn one(&self, node: &Node<'_>, parent: Option<(&str, &str)>, all: &mut Vec<Resource>, report: &mut Report) {
        let Some(kind) = node.find("type") else {
            report.note(Kind::UnknownShape, &node.at, "a resource of the template has no `type`");
            return;
        };
        let Some(kind) = kind.text("`type`", report) else {
            return;
        };
        let kind = match parent {
            Some((outer, _)) if !kind.to_ascii_lowercase().contains("microsoft.") => {
                format!("{outer}/{kind}").to_ascii_lowercase()
            }
            _ => kind.to_ascii_lowercase(),
        };
        if node
            .find("existing")
            .is_some_and(|flag| *flag.value == Json::Bool(true))
        {
            return;
        }
        let matters = kind.starts_with("microsoft.network/firewall")
            || kind.starts_with("microsoft.network/azurefirewall")
            || kind == "microsoft.network/ipgroups"
            || kind == DEPLOYMENT;
        if !matters {
            return;
        }
        if let Some(condition) = node.find("condition") {
            match self.resolve(condition.value) {
                Json::Bool(true) => {}
                Json::Bool(false) => {
                    let message = format!("the resource of type `{kind}` has a condition that is false");
                    report
                        .note(Kind::NotDeployed, &node.at, message)
                        .outcome("not carried over");
                    return;
                }
                other => {
                    Node::new(&other, condition.at).refuse("`condition` must be true or false", report);
                    return;
                }
            }
        }
        if let Some(copy) = node.find("copy") {
            report
                .note(
                    Kind::Expression,
                    &copy.at,
                    "a loop (`copy`) makes this resource, and its rules are not literal",
                )
                .help(super::json::EXPORT);
            return;
        }
        if kind == DEPLOYMENT {
            self.nested(node, all, report);
            return;
        }
        let name = node.find("name").map(|name| match name.value {
            Json::Text(text) => self.text(text),
            _ => UNKNOWN.to_string(),
        });
        let full = match (&name, parent) {
            (Some(name), Some((_, outer))) if !name.contains('/') => format!("{outer}/{name}"),
            (Some(name), _) => name.clone(),
            (None, _) => String::new(),
        };
        let mut named = Named::default();
        let segments: Vec<_> = full.split('/').collect();
        match segments.as_slice() {
            [one] => named.name = literal(one),
            [outer, .., last] => {
                named.policy = Some((*outer).to_owned());
                named.name = literal(last);
            }
            [] => {}
        }
        self.list(node, Some((&kind, &full)), all, report);
        all.push(Resource {
            value: self.resolve(node.value),
            at: node.at.clone(),
            kind,
            named,
        });
    }

    /// A template inside of a template, as modules become.
    fn nested(&self, node: &Node<'_>, all: &mut Vec<Resource>, report: &mut Report) {
        let Some(properties) = node.find("properties") else {
            return;
        };
        if let Some(link) = properties.find("templateLink") {
            report
                .note(
                    Kind::Incomplete,
                    &link.at,
                    "a linked template: the rules that it may hold are elsewhere",
                )
                .help(super::json::EXPORT);
            return;
        }
        let Some(template) = properties.find("template") else {
            let message = "a nested deployment without a template: the rules that it may hold are elsewhere";
            report
                .note(Kind::Incomplete, &node.at, message)
                .help(super::json::EXPORT);
            return;
        };
        let inner = properties
            .value
            .find("expressionEvaluationOptions")
            .and_then(|options| options.find("scope"))
            .and_then(Json::as_text)
            .is_some_and(|scope| scope.eq_ignore_ascii_case("inner"));
        if inner {
            let given = properties
                .value
                .find("parameters")
                .map(|parameters| values(&self.resolve(parameters)));
            let mut given = given.unwrap_or_default();
            given.retain(|_, value| !has_expression(value));
            Scope::of(&template, &given).list(&template, None, all, report);
        } else {
            self.list(&template, None, all, report);
        }
    }

    /// A value with parameters put in; other expressions are marked as such.
    fn resolve(&self, value: &Json) -> Json {
        match value {
            Json::Text(text) => match text.strip_prefix("[[") {
                Some(rest) => Json::Text(format!("[{rest}")),
                None => match inner(text) {
                    Some(expression) => self.parameter(expression).cloned().unwrap_or_else(|| {
                        Json::Expression(self.named_group(expression).unwrap_or_else(|| text.clone()))
                    }),
                    None => value.clone(),
                },
            },
            Json::List(items) => Json::List(items.iter().map(|item| self.resolve(item)).collect()),
            Json::Map(entries) => {
                let entries = entries.iter();
                Json::Map(entries.map(|(key, value)| (key.clone(), self.resolve(value))).collect())
            }
            other => other.clone(),
        }
    }

    /// The id of an IP group whose name is a parameter, with the name put in.
    fn named_group(&self, expression: &str) -> Option<String> {
        let (function, arguments) = arguments(expression.trim())?;
        let [kind, name] = arguments.as_slice() else {
            return None;
        };
        let name = self.evaluate(name);
        let fits = function.eq_ignore_ascii_case("resourceId") && !name.contains([UNKNOWN, '\'']);
        fits.then(|| format!("[{function}({},'{name}')]", kind.trim()))
    }

    /// The literal value of `parameters('x')`, if the expression is that and no more.
    fn parameter(&self, expression: &str) -> Option<&Json> {
        let name = call(expression, "parameters")?;
        self.parameters.get(&name.to_ascii_lowercase())
    }

    /// A name, with what is not known in it marked.
    fn text(&self, text: &str) -> String {
        match (text.strip_prefix("[["), inner(text)) {
            (Some(rest), _) => format!("[{rest}"),
            (None, Some(expression)) => self.evaluate(expression),
            (None, None) => text.to_owned(),
        }
    }

    /// The text that an expression makes out of literals, parameters and variables. What is not known stands in it as
    /// its source, between marks, so that two names made of the same source are equal.
    fn evaluate(&self, expression: &str) -> String {
        let expression = expression.trim();
        if let Some(text) = quoted(expression) {
            return text;
        }
        let known = call(expression, "parameters").map(|name| self.parameters.get(&name.to_ascii_lowercase()));
        let known = known.or_else(|| {
            let name = call(expression, "variables")?;
            Some(self.variables.get(&name.to_ascii_lowercase()))
        });
        if let Some(Some(Json::Text(text))) = known {
            return text.clone();
        }
        let unknown = || format!("{UNKNOWN}{}{UNKNOWN}", expression.replace('/', "|"));
        let Some((function, arguments)) = arguments(expression) else {
            return unknown();
        };
        let mut values = arguments.iter().map(|argument| self.evaluate(argument));
        match function.to_ascii_lowercase().as_str() {
            "concat" => values.collect(),
            "format" => {
                let mut text = values.next().unwrap_or_default();
                for (index, value) in values.enumerate() {
                    text = text.replace(&format!("{{{index}}}"), &value);
                }
                text
            }
            "resourceid" => values.next_back().unwrap_or_default(),
            _ => unknown(),
        }
    }
}

fn literal(name: &str) -> Option<String> {
    (!name.is_empty() && !name.contains(UNKNOWN)).then(|| name.to_owned())
}

/// What stands between the brackets of an expression.
fn inner(text: &str) -> Option<&str> {
    text.strip_prefix('[')?.strip_suffix(']')
}

/// `x` of `NAME('x')`.
fn call<'t>(expression: &'t str, name: &str) -> Option<&'t str> {
    let expression = expression.trim();
    let function = expression.get(..name.len())?;
    let rest = expression.get(name.len()..)?.trim();
    let argument = rest.strip_prefix('(')?.strip_suffix(')')?.trim();
    let argument = argument.strip_prefix('\'')?.strip_suffix('\'')?;
    (function.eq_ignore_ascii_case(name) && !argument.contains('\'')).then_some(argument)
}

/// A literal in quotes, in which a quote is written twice.
fn quoted(expression: &str) -> Option<String> {
    let text = expression.strip_prefix('\'')?.strip_suffix('\'')?;
    let text = text.replace("''", "\u{0}");
    (!text.contains('\'')).then(|| text.replace('\u{0}', "'"))
}

/// The function and its arguments, if the expression is one call and nothing behind it.
fn arguments(expression: &str) -> Option<(&str, Vec<&str>)> {
    let (function, rest) = expression.split_once('(')?;
    let body = rest.strip_suffix(')')?;
    let (mut depth, mut in_text, mut start, mut all) = (0_usize, false, 0, Vec::new());
    for (at, c) in body.char_indices() {
        match c {
            '\'' => in_text = !in_text,
            '(' | '[' if !in_text => depth += 1,
            ')' | ']' if !in_text => depth = depth.checked_sub(1)?,
            ',' if !in_text && depth == 0 => {
                all.push(body.get(start..at)?);
                start = at + 1;
            }
            _ => {}
        }
    }
    all.push(body.get(start..)?);
    (depth == 0 && !in_text).then_some((function.trim(), all))
}

/// Whether a template would evaluate anything in it.
fn has_expression(value: &Json) -> bool {
    match value {
        Json::Text(text) => !text.starts_with("[[") && inner(text).is_some(),
        Json::Expression(_) => true,
        Json::List(items) => items.iter().any(has_expression),
        Json::Map(entries) => entries.iter().any(|(_, value)| has_expression(value)),
        Json::Null | Json::Bool(_) | Json::Int(_) | Json::Number(_) => false,
    }
}

const DEPLOYMENT: &str = "microsoft.resources/deployments";
/// Marks what is not known in a name; no name holds it.
const UNKNOWN: char = '\u{fffd}';

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_of_what_is_literal() {
        let mut scope = Scope::default();
        scope.parameters.insert("p".into(), Json::Text("policy".into()));
        for (text, made) in [
            ("plain/x", "plain/x"),
            ("[[x]", "[x]"),
            ("[parameters('P')]", "policy"),
            ("[format('{0}/{1}', parameters('p'), 'Default')]", "policy/Default"),
            ("[concat(parameters('p'), '/', 'it''s')]", "policy/it's"),
            ("[concat(parameters('p'), '/Default')]", "policy/Default"),
            (
                "[resourceId('Microsoft.Network/firewallPolicies', parameters('p'))]",
                "policy",
            ),
        ] {
            assert_eq!(scope.text(text), made, "{text}");
        }
        let unknown = scope.text("[format('{0}/{1}', parameters('q'), 'x')]");
        assert_eq!(unknown.split_once('/').unwrap().1, "x");
        for text in [
            "[format('a/{0}', toLower('B'))]",
            "[uniqueString('a')]",
            "[concat('a', 'b'",
            "[if(true(), 'a', 'b')]",
        ] {
            assert!(resource_name(text).is_none() || !text.ends_with(']'), "{text}");
        }
    }

    #[test]
    fn an_ip_group_of_the_same_deployment() {
        for (text, name) in [
            ("[resourceId('Microsoft.Network/ipGroups', 'nodes')]", Some("nodes")),
            ("[ resourceid('microsoft.network/ipgroups','nodes') ]", Some("nodes")),
            ("[resourceId('other', 'Microsoft.Network/ipGroups', 'nodes')]", None),
            ("[resourceId('Microsoft.Network/ipGroups', parameters('nodes'))]", None),
            ("[resourceId('Microsoft.Network/firewallPolicies', 'nodes')]", None),
            ("[concat(resourceId('Microsoft.Network/ipGroups', 'nodes'), 'x')]", None),
            ("[concat('Microsoft.Network/ipGroups', 'nodes')]", None),
            ("resourceId('Microsoft.Network/ipGroups', 'nodes')", None),
        ] {
            assert_eq!(ip_group(text).as_deref(), name, "{text}");
        }
    }

    #[test]
    fn a_parameter_is_put_in_where_that_is_all() {
        let mut scope = Scope::default();
        scope
            .parameters
            .insert("names".into(), Json::List(vec![Json::Text("a".into())]));
        let resolve = |text: &str| scope.resolve(&Json::Text(text.into()));
        assert_eq!(
            resolve("[parameters('names')]"),
            Json::List(vec![Json::Text("a".into())])
        );
        assert_eq!(
            resolve("[[parameters('names')]"),
            Json::Text("[parameters('names')]".into())
        );
        for text in [
            "[parameters('other')]",
            "[parameters('names')[0]]",
            "[concat(parameters('names'))]",
            "[variables('x')]",
        ] {
            assert_eq!(resolve(text), Json::Expression(text.into()), "{text}");
        }
    }
}
