//! `allow_from` and `[admin]` in the configuration.

use strongroom::config::Config;

fn parse(top: &str, table: &str) -> Result<Config, String> {
    let text = format!("log_origin = \"example.com/log\"\n{top}\n{table}\n");
    Config::parse(text.as_bytes()).map_err(|fault| fault.to_string())
}

#[test]
fn a_list_of_networks_is_taken_as_it_is_written() {
    let config = parse("allow_from = [\"192.0.2.0/24\", \"2001:db8::/32\", \"198.51.100.7\"]", "").unwrap();
    assert_eq!(config.allow_from.unwrap().to_string(), "192.0.2.0/24, 2001:db8::/32, 198.51.100.7/32");
    let bare = parse("", "").unwrap();
    assert_eq!((bare.allow_from, bare.serve_log_allow_from, bare.admin), (None, None, None));
    let config = parse("", "[admin]\nlisten = \"[::1]:9433\"\nallow_from = [\"::1\"]").unwrap();
    assert_eq!(config.admin.unwrap().listen, "[::1]:9433".parse().unwrap());
}

// Red without the test for an empty list.
#[test]
fn what_would_let_in_somebody_else_or_nobody_is_refused_with_what_would_be_right() {
    for (top, table, problem) in [
        ("allow_from = []", "", "2: allow_from: an empty list would let nobody in"),
        ("allow_from = [\"192.0.2.1/24\"]", "", "has bits behind its prefix; write 192.0.2.0/24"),
        (
            "allow_from = [\"::ffff:192.0.2.0/120\"]",
            "",
            "is an IPv4 network in other clothes; write 192.0.2.0/24",
        ),
        ("allow_from = [\"::ffff:192.0.2.9\"]", "", "write 192.0.2.9/32"),
        ("allow_from = [\"example.com\"]", "", "expected a network such as \"192.0.2.0/24\""),
        ("allow_from = [\"192.0.2.0/33\"]", "", "expected a network such as"),
        ("allow_from = [\"192.0.2.7\", \"192.0.2.7/32\"]", "", "192.0.2.7/32 stands twice in the list"),
        ("allow_from = \"192.0.2.7\"", "", "expected a list"),
        ("allow_form = [\"192.0.2.7\"]", "", "did you mean \"allow_from\"?"),
        ("serve_log_allow_from = [\"192.0.2.7\"]", "", "2: serve_log_allow_from: bounds who reads the log"),
        ("", "[admin]\nlisten = \"127.0.0.1:9433\"", "say who may connect: add allow_from"),
        ("", "[admin]\nallow_from = [\"127.0.0.1\"]", "listen is missing in admin"),
        ("", "[admin]\nlisten = \"localhost\"\nallow_from = [\"::1\"]", "expected an address and a port"),
        (
            "",
            "[admin]\nlisten = \"127.0.0.1:1\"\nallow_from = [\"::1\"]\ntls = true",
            "unknown key \"admin.tls\"",
        ),
    ] {
        let said = parse(top, table).expect_err(top);
        assert!(said.contains(problem), "{said:?} where {problem:?} was expected");
    }
    let many: Vec<_> = (0..=256).map(|host| format!("\"10.0.{}.{}\"", host / 256, host % 256)).collect();
    let said = parse(&format!("allow_from = [{}]", many.join(",")), "").unwrap_err();
    assert!(said.contains("at most 256 networks"), "{said}");
}
