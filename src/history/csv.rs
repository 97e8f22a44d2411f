//! Rows of comma-separated values (RFC 4180), as the portal exports the result of a query.
//! Must not guess: a row that has not as many fields as the header has none that could be trusted.
//! Called by the reader, line by line, once a header has been seen.

/// The columns of a table whose rows follow.
#[derive(Debug)]
pub(super) struct Table {
    columns: Vec<String>,
    /// A row whose last field is still open.
    open: Option<(u64, String)>,
}

/// A row, by column; or why it is none.
pub(super) type Row = Result<Vec<(String, String)>, &'static str>;

impl Table {
    /// Reads a line as a header; `None` where it is not one of a table that we read.
    pub(super) fn header(line: &str) -> Option<Self> {
        let columns = fields(line.trim_start_matches('\u{feff}').trim_end_matches('\r'))?;
        // The portal writes the time zone behind the column: `TimeGenerated [UTC]`.
        let columns: Vec<_> = columns
            .iter()
            .map(|column| column.split(" [").next().unwrap_or_default().trim().to_owned())
            .collect();
        let has = |name: &str| columns.iter().any(|column| column == name);
        let known = has("TimeGenerated") && KNOWN.iter().any(|name| has(name));
        known.then_some(Self { columns, open: None })
    }

    /// Takes the next line; gives a row with the line on which it began, once it is whole.
    pub(super) fn line(&mut self, number: u64, line: &str) -> Option<(u64, Row)> {
        let mut is_open = line.matches('"').count() % 2 == 1;
        let (began, text) = match self.open.take() {
            Some((began, mut text)) => {
                // The field that was open is closed only by what this line adds.
                is_open = !is_open;
                text.push('\n');
                text.push_str(line);
                (began, text)
            }
            None => (number, line.to_owned()),
        };
        if is_open {
            if text.len() > MAX_ROW {
                return Some((began, Err("a quotation mark is not closed")));
            }
            self.open = Some((began, text));
            return None;
        }
        Some((began, self.row(text.trim_end_matches('\r'))))
    }

    /// What is left open at the end of the log.
    pub(super) fn finish(self) -> Option<(u64, Row)> {
        let (began, _) = self.open?;
        Some((began, Err("a quotation mark is not closed")))
    }

    fn row(&self, text: &str) -> Row {
        let fields = fields(text).ok_or("its quotation marks do not pair")?;
        if fields.len() != self.columns.len() {
            return Err("it has not as many fields as the header");
        }
        Ok(self.columns.iter().cloned().zip(fields).collect())
    }
}

fn fields(line: &str) -> Option<Vec<String>> {
    let mut fields = Vec::new();
    let mut rest = line;
    loop {
        let (field, after) = if let Some(quoted) = rest.strip_prefix('"') {
            quoted_field(quoted)?
        } else {
            let (field, after) = rest.split_at(rest.find(',').unwrap_or(rest.len()));
            (field.to_owned(), after)
        };
        fields.push(field);
        if after.is_empty() {
            return Some(fields);
        }
        rest = after.strip_prefix(',')?;
    }
}

/// A field behind its opening quotation mark, and what follows its closing one.
fn quoted_field(text: &str) -> Option<(String, &str)> {
    let mut field = String::new();
    let mut rest = text;
    loop {
        let (part, after) = rest.split_once('"')?;
        field.push_str(part);
        match after.strip_prefix('"') {
            Some(more) => {
                field.push('"');
                rest = more;
            }
            None => return Some((field, after)),
        }
    }
}

/// A table that holds none of these is none of ours.
const KNOWN: &[&str] = &["Fqdn", "DestinationIp", "msg_s", "QueryName", "LogMessage", "LogEntry"];
const MAX_ROW: usize = 1 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_are_read_by_column() {
        let mut table = Table::header("\u{feff}\"TimeGenerated [UTC]\",Fqdn,ActionReason\r").unwrap();
        let row =
            |table: &mut Table, number, line| table.line(number, line).map(|(began, row)| (began, row.map(values)));
        assert_eq!(
            row(&mut table, 2, "1,a.test,\"x, \"\"y\"\"\"\r"),
            Some((2, Ok(vec!["1".to_owned(), "a.test".to_owned(), "x, \"y\"".to_owned()])))
        );
        assert_eq!(row(&mut table, 3, "1,a.test,\"two"), None);
        assert_eq!(
            row(&mut table, 4, "lines\""),
            Some((
                3,
                Ok(vec!["1".to_owned(), "a.test".to_owned(), "two\nlines".to_owned()])
            ))
        );
        assert_eq!(
            row(&mut table, 5, "1,2"),
            Some((5, Err("it has not as many fields as the header")))
        );
        assert_eq!(
            row(&mut table, 6, "\"1\"x,2,3"),
            Some((6, Err("its quotation marks do not pair")))
        );
        assert_eq!(row(&mut table, 7, "1,2,\"3"), None);
        assert_eq!(table.finish().unwrap().0, 7);
    }

    #[test]
    fn only_known_tables_have_headers() {
        assert!(Table::header("TimeGenerated,Fqdn").is_some());
        assert!(Table::header("TimeGenerated,Computer").is_none());
        assert!(Table::header("2026-11-21T05:00:00Z INFO listening, TimeGenerated").is_none());
    }

    fn values(row: Vec<(String, String)>) -> Vec<String> {
        row.into_iter().map(|(_, value)| value).collect()
    }
}
