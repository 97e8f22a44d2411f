//! The proxy's records as tests read them: one JSON object per line of its standard output.
//! Must not know Rust types of the proxy; the keys are those that `config/record.schema.json` documents.
//! Called by `Proxy`, which collects them, and by every test that asserts one.

use serde_json::Value;

#[derive(Clone, Debug)]
pub struct Record(pub Value);

impl Record {
    pub fn is_decision(&self) -> bool {
        self.0["type"] == "decision"
    }

    pub fn is_tunnel(&self) -> bool {
        self.0["type"] == "tunnel"
    }

    /// A text, or "" where the key is absent.
    pub fn text(&self, key: &str) -> &str {
        self.0[key].as_str().unwrap_or_default()
    }

    pub fn number(&self, key: &str) -> u64 {
        self.0[key]
            .as_u64()
            .unwrap_or_else(|| panic!("{key} is no number in {}", self.0))
    }

    pub fn id(&self) -> &str {
        self.text("id")
    }

    pub fn host(&self) -> &str {
        self.text("host")
    }

    pub fn reason(&self) -> &str {
        self.text("reason")
    }

    /// `allow rule` or `deny no_rule`.
    pub fn verdict(&self) -> String {
        format!("{} {}", self.text("action"), self.text("reason"))
    }
}
