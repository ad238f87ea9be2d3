//! A record as one syslog message.
//!
//! *Never:* a byte below 32 in a message: whoever frames by lines sees one line for each record.
//! *Spec:* RFC 5424; `docs/formats/forwarding.md`.

use std::fmt::Write as _;

use strongroom_job::merkle::Hash;

use super::entry::Entry;

/// "Log audit", the facility of records about who did what.
const FACILITY: u8 = 13;
const APP_NAME: &str = "strongroom";
/// Structured data of ours. A name of one's own needs `@` and an enterprise number. We have none registered; 32473 is for documents
/// (RFC 5612), and any other is somebody's. 0 is reserved, so it is nobody's and will not be.
const SD_ID: &str = "strongroom@0";
/// What stands for nothing.
const NIL: &str = "-";
/// RFC 5424 wants it before UTF-8. Before plain ASCII, which needs no mark, it would only be in the way of who reads the JSON.
const BOM: &str = "\u{feff}";
const MAX_HOSTNAME_BYTES: usize = 255;

/// What is the same in every message of one host.
#[derive(Clone, Debug)]
pub(super) struct Sender {
    hostname: String,
    pid: u32,
    /// The log's name.
    log: String,
}

impl Sender {
    pub(super) fn new(hostname: &str, pid: u32, log: String) -> Self {
        let plain = |byte: u8| byte.is_ascii_graphic();
        let fits =
            !hostname.is_empty() && hostname.len() <= MAX_HOSTNAME_BYTES && hostname.bytes().all(plain);
        Self { hostname: if fits { hostname } else { NIL }.to_owned(), pid, log }
    }

    /// The whole message.
    pub(super) fn message(&self, entry: &Entry) -> Vec<u8> {
        let mut message = self.header(entry);
        message.push_str("] ");
        if !entry.leaf.is_ascii() {
            message.push_str(BOM);
        }
        let mut message = message.into_bytes();
        // A record has none. If one ever had, it must not look like the end of a message.
        message.extend(entry.leaf.iter().map(|byte| if byte.is_ascii_control() { b'?' } else { *byte }));
        message
    }

    /// What is sent in place of a message that is too long for a datagram: where it is, and its leaf's hash, by which whoever
    /// fetches it from the log can tell that it is the one.
    pub(super) fn stand_in(&self, entry: &Entry) -> Vec<u8> {
        let (length, hash) = (entry.leaf.len(), hex::encode(Hash::of_leaf(&entry.leaf).as_bytes()));
        let mut message = self.header(entry);
        let _ = write!(
            message,
            " omitted=\"{length}\" leaf=\"{hash}\"] {{\"omitted\":{{\"index\":{},\"bytes\":{length},\"leaf\":\"{hash}\"}}}}",
            entry.index
        );
        message.into_bytes()
    }

    /// Up to the structured data, which is left open.
    fn header(&self, entry: &Entry) -> String {
        let priority = FACILITY * 8 + entry.severity as u8;
        let (hostname, pid) = (&self.hostname, self.pid);
        let time = entry.time.map_or_else(|| NIL.to_owned(), timestamp);
        let kind = entry.kind.as_deref().unwrap_or(NIL);
        let mut header = format!(
            "<{priority}>1 {time} {hostname} {APP_NAME} {pid} {kind} [{SD_ID} log=\"{}\" index=\"{}\"",
            escaped(&self.log),
            entry.index
        );
        if let Some(job) = entry.job {
            let _ = write!(header, " job=\"{job}\"");
        }
        header
    }
}

/// RFC 3339 in UTC with milliseconds, or nothing for a time that it cannot write.
fn timestamp(millis: u64) -> String {
    let time = i64::try_from(millis).ok().and_then(|millis| jiff::Timestamp::from_millisecond(millis).ok());
    time.map_or_else(|| NIL.to_owned(), |time| format!("{time:.3}"))
}

/// A text as a parameter's value: RFC 5424, 6.3.3.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for character in text.chars() {
        if matches!(character, '"' | '\\' | ']') {
            escaped.push('\\');
        }
        escaped.push(if character.is_control() { '?' } else { character });
    }
    escaped
}

/// The name of this machine, as its kernel has it.
pub(super) fn hostname() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    name.trim_end().to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sender() -> Sender {
        Sender::new("gate", 7, r#"example.com/a"b\c]d"#.into())
    }

    // Red without `]` in `escaped`.
    #[test]
    fn a_message_is_written_as_the_rfc_says() {
        let leaf = r#"{"v":1,"time":1700000000123,"type":"started","job":"a0a0a0a0a0a0a0a0a0a0a0a0a0a00001","attempt":1}"#;
        let message = String::from_utf8(sender().message(&Entry::new(3, leaf.into()))).unwrap();
        let expected = r#"<110>1 2023-11-14T22:13:20.123Z gate strongroom 7 started [strongroom@0 log="example.com/a\"b\\c\]d" index="3" job="a0a0a0a0a0a0a0a0a0a0a0a0a0a00001"] "#;
        assert_eq!(message, format!("{expected}{leaf}"));
    }

    #[test]
    fn what_cannot_be_said_is_left_out() {
        let message = String::from_utf8(sender().message(&Entry::new(3, "{\"v\":9}".into()))).unwrap();
        let expected =
            r#"<109>1 - gate strongroom 7 - [strongroom@0 log="example.com/a\"b\\c\]d" index="3"] {"v":9}"#;
        assert_eq!(message, expected);
        for unfit in ["", "a b", "a\u{e9}", "a\nb", &"a".repeat(256)] {
            assert_eq!(Sender::new(unfit, 7, String::new()).hostname, "-");
        }
        assert_eq!(timestamp(u64::MAX), "-");
    }

    #[test]
    fn no_leaf_makes_a_second_line() {
        let message = sender().message(&Entry::new(3, b"{\"a\":\"x\n<110>1 forged\x00\x7f\"}".to_vec()));
        assert!(!message.iter().any(u8::is_ascii_control), "{}", String::from_utf8_lossy(&message));
    }

    #[test]
    fn text_beyond_ascii_is_marked_as_the_rfc_wants() {
        let message = String::from_utf8(sender().message(&Entry::new(3, "{\"a\":\"ü\"}".into()))).unwrap();
        assert!(message.ends_with("] \u{feff}{\"a\":\"ü\"}"), "{message}");
    }

    #[test]
    fn a_stand_in_says_what_is_missing() {
        let leaf = vec![b'x'; 9000];
        let message = String::from_utf8(sender().stand_in(&Entry::new(3, leaf.clone()))).unwrap();
        let hash = hex::encode(Hash::of_leaf(&leaf).as_bytes());
        assert!(message.contains(&format!(" index=\"3\" omitted=\"9000\" leaf=\"{hash}\"] {{")), "{message}");
        assert!(message.len() < 480, "what every receiver takes");
    }
}
