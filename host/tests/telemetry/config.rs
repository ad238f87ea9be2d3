//! `[telemetry]` in the configuration.

use std::time::Duration;

use strongroom::config::Config;

fn parse(table: &str) -> Result<Config, String> {
    let text = format!("log_origin = \"example.com/log\"\n{table}\n");
    Config::parse(text.as_bytes()).map_err(|fault| fault.to_string())
}

#[test]
fn nothing_is_sent_anywhere_unless_somebody_says_so() {
    assert_eq!(parse("").unwrap().telemetry, None);
    let usual = parse("[telemetry]\nto = \"otlp+http://127.0.0.1:4318\"").unwrap().telemetry.unwrap();
    assert_eq!((usual.traces, usual.metrics_every), (true, Some(Duration::from_secs(15))));
    let config =
        parse("[telemetry]\nto = \"otlp+https://[::1]:443/otlp/\"\ntraces = false\nmetrics_every_ms = 1000")
            .unwrap();
    let telemetry = config.telemetry.as_ref().unwrap();
    assert_eq!(telemetry.to.to_string(), "otlp+https://[::1]:443/otlp");
    assert_eq!((telemetry.traces, telemetry.metrics_every), (false, Some(Duration::from_secs(1))));
    // What is shown means the same.
    for table in [
        "[telemetry]\nto = \"otlp+http://c:1\"",
        "[telemetry]\nto = \"otlp+http://c:1\"\nmetrics = false",
        "[telemetry]\nto = \"otlp+http://c:1\"\ntraces = false\nmetrics_every_ms = 3600000",
    ] {
        let text = format!("log_origin = \"example.com/log\"\n{table}\n");
        let shown = Config::explained(&Config::settings(text.as_bytes()).unwrap());
        let again = Config::parse(shown.as_bytes()).unwrap_or_else(|fault| panic!("{fault}: {shown}"));
        assert_eq!(again.telemetry, parse(table).unwrap().telemetry, "{shown}");
        assert_eq!(again.governs, parse(table).unwrap().governs, "{shown}");
    }
    assert_eq!(parse("").unwrap().fixed(&config), ["[telemetry]"], "it is taken at a start");
}

#[test]
fn what_cannot_be_meant_is_refused_with_what_would_be_right() {
    for (table, problem) in [
        ("[telemetry]", "2: to is missing in telemetry: where a collector takes OTLP"),
        ("telemetry = true", "expected a table, found true"),
        ("[telemetry]\nto = \"http://c:4318\"", "3: telemetry.to: expected otlp+http://HOST:PORT"),
        ("[telemetry]\nto = \"otlp+http://c\"", "usually 4318"),
        (
            "[telemetry]\nto = \"otlp+http://c:4318/v1/traces\"",
            "ends with /v1/traces, which is for one signal",
        ),
        (
            "[telemetry]\nto = \"otlp+http://c:1\"\ntraces = false\nmetrics = false",
            "nothing would be sent there",
        ),
        ("[telemetry]\nto = \"otlp+http://c:1\"\nmetrics = false\nmetrics_every_ms = 1000", "switched off"),
        (
            "[telemetry]\nto = \"otlp+http://c:1\"\nmetrics_every_ms = 10",
            "10 is out of range: 1000 to 3600000",
        ),
        (
            "[telemetry]\nto = \"otlp+http://c:1\"\nca_file = \"/x.pem\"",
            "is for a collector that begins with otlp+https://",
        ),
        ("[telemetry]\nto = \"otlp+https://c:1\"\nca_file = \"/nowhere/x.pem\"", "telemetry.ca_file"),
        ("[telemetry]\nto = \"otlp+http://c:1\"\ntrace = true", "did you mean \"traces\"?"),
    ] {
        let said = parse(table).expect_err(table);
        assert!(said.contains(problem), "{said:?} where {problem:?} was expected");
    }
}
