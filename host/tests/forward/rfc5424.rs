//! A strict reader of syslog messages, from the grammar of RFC 5424, section 6. Anything that the grammar does not have is an error.

/// One message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Message {
    pub(crate) facility: u8,
    pub(crate) severity: u8,
    pub(crate) timestamp: Option<String>,
    pub(crate) hostname: Option<String>,
    pub(crate) app_name: Option<String>,
    pub(crate) procid: Option<String>,
    pub(crate) msgid: Option<String>,
    /// Elements, each with its parameters, unescaped.
    pub(crate) data: Vec<(String, Vec<(String, String)>)>,
    /// Without the byte order mark.
    pub(crate) text: Vec<u8>,
}

impl Message {
    /// A parameter of the one element of ours.
    pub(crate) fn param(&self, name: &str) -> Option<&str> {
        let [(id, params)] = self.data.as_slice() else { panic!("{self:?}") };
        assert_eq!(id, "strongroom@0");
        params.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }
}

/// Reads a whole message.
pub(crate) fn parse(message: &[u8]) -> Result<Message, String> {
    let mut rest = message;
    expect(&mut rest, b'<')?;
    let priority = take(&mut rest, |byte| byte.is_ascii_digit());
    expect(&mut rest, b'>')?;
    let text = text(priority)?;
    let number: u8 = text.parse().map_err(|_| format!("priority {text}"))?;
    if number > 191 || (text.len() > 1 && text.starts_with('0')) {
        return Err(format!("priority {text}"));
    }
    expect(&mut rest, b'1')?;
    expect(&mut rest, b' ')?;
    let timestamp = field(&mut rest, 32)?;
    if let Some(time) = &timestamp {
        check_timestamp(time)?;
    }
    let hostname = field(&mut rest, 255)?;
    let app_name = field(&mut rest, 48)?;
    let procid = field(&mut rest, 128)?;
    let msgid = field(&mut rest, 32)?;
    let data = data(&mut rest)?;
    let body = match rest.split_first() {
        None => &[][..],
        Some((b' ', body)) => body,
        Some(_) => return Err("no space before the text".into()),
    };
    let body = match body.strip_prefix(b"\xef\xbb\xbf") {
        Some(marked) => {
            str::from_utf8(marked).map_err(|error| error.to_string())?;
            marked
        }
        None => body,
    };
    Ok(Message {
        facility: number / 8,
        severity: number % 8,
        timestamp,
        hostname,
        app_name,
        procid,
        msgid,
        data,
        text: body.to_vec(),
    })
}

fn expect(rest: &mut &[u8], wanted: u8) -> Result<(), String> {
    match rest.split_first() {
        Some((found, after)) if *found == wanted => {
            *rest = after;
            Ok(())
        }
        found => Err(format!("expected {:?}, found {found:?}", char::from(wanted))),
    }
}

fn take<'a>(rest: &mut &'a [u8], wanted: impl Fn(u8) -> bool) -> &'a [u8] {
    let length = rest.iter().take_while(|byte| wanted(**byte)).count();
    let (taken, after) = rest.split_at(length);
    *rest = after;
    taken
}

fn text(bytes: &[u8]) -> Result<String, String> {
    String::from_utf8(bytes.to_vec()).map_err(|error| error.to_string())
}

/// `NILVALUE / 1*n PRINTUSASCII`, and the space behind it.
fn field(rest: &mut &[u8], longest: usize) -> Result<Option<String>, String> {
    let found = text(take(rest, |byte| (33..=126).contains(&byte)))?;
    if found.is_empty() || found.len() > longest {
        return Err(format!("a field of {} bytes", found.len()));
    }
    expect(rest, b' ')?;
    Ok((found != "-").then_some(found))
}

/// `YYYY-MM-DDThh:mm:ss[.1-6 digits](Z / +-hh:mm)`.
fn check_timestamp(time: &str) -> Result<(), String> {
    let wrong = || format!("timestamp {time}");
    let shape: String = time.chars().map(|char| if char.is_ascii_digit() { '0' } else { char }).collect();
    let rest = shape.strip_prefix("0000-00-00T00:00:00").ok_or_else(wrong)?;
    let zone = match rest.strip_prefix('.') {
        Some(fraction) => {
            let zone = fraction.trim_start_matches('0');
            if !(1..=6).contains(&(fraction.len() - zone.len())) {
                return Err(wrong());
            }
            zone
        }
        None => rest,
    };
    if ["Z", "+00:00", "-00:00"].contains(&zone) { Ok(()) } else { Err(wrong()) }
}

type Element = (String, Vec<(String, String)>);

fn data(rest: &mut &[u8]) -> Result<Vec<Element>, String> {
    if let Some(after) = rest.strip_prefix(b"-") {
        *rest = after;
        return Ok(Vec::new());
    }
    let mut elements: Vec<Element> = Vec::new();
    while rest.first() == Some(&b'[') {
        expect(rest, b'[')?;
        let id = name(rest)?;
        if elements.iter().any(|(earlier, _)| *earlier == id) {
            return Err(format!("element {id} stands twice"));
        }
        let mut params = Vec::new();
        while rest.first() == Some(&b' ') {
            expect(rest, b' ')?;
            let key = name(rest)?;
            expect(rest, b'=')?;
            expect(rest, b'"')?;
            params.push((key, value(rest)?));
        }
        expect(rest, b']')?;
        elements.push((id, params));
    }
    if elements.is_empty() { Err("no structured data".into()) } else { Ok(elements) }
}

fn name(rest: &mut &[u8]) -> Result<String, String> {
    let found = text(take(rest, |byte| (33..=126).contains(&byte) && !b"=]\"".contains(&byte)))?;
    if (1..=32).contains(&found.len()) { Ok(found) } else { Err(format!("a name of {} bytes", found.len())) }
}

fn value(rest: &mut &[u8]) -> Result<String, String> {
    let mut found = Vec::new();
    loop {
        let (byte, after) = rest.split_first().ok_or("a value without an end")?;
        *rest = after;
        match byte {
            b'"' => return text(&found),
            b']' => return Err("an unescaped ] in a value".into()),
            b'\\' => {
                let (escaped, after) = rest.split_first().ok_or("a value without an end")?;
                if !b"\"\\]".contains(escaped) {
                    found.push(b'\\');
                }
                found.push(*escaped);
                *rest = after;
            }
            other => found.push(*other),
        }
    }
}

#[test]
fn the_examples_of_the_rfc_are_read() {
    let message = parse(
        b"<165>1 2003-08-24T05:14:15.000003-07:00 192.0.2.1 myproc 8710 - - %% It's time to make the do-nuts.",
    )
    .unwrap();
    assert_eq!((message.facility, message.severity), (20, 5));
    assert_eq!(message.text, b"%% It's time to make the do-nuts.");
    let message = parse(
        b"<165>1 2003-10-11T22:14:15.003Z mymachine.example.com evntslog - ID47 [exampleSDID@32473 iut=\"3\" \
          eventSource=\"Application\" eventID=\"1011\"][examplePriority@32473 class=\"high\"]",
    )
    .unwrap();
    assert_eq!(message.data.len(), 2);
    assert!(message.text.is_empty());
}

#[test]
fn what_the_grammar_does_not_have_is_refused() {
    let good = "<110>1 2003-10-11T22:14:15.003Z h a 1 m [s@0 i=\"1\"] {}";
    parse(good.as_bytes()).unwrap();
    for (from, to) in [
        ("<110>", "<192>"),
        ("<110>", "<0110>"),
        ("<110>", "110"),
        ("1 2003", "2 2003"),
        (".003Z", ".0000003Z"),
        ("T22", " 22"),
        (" h ", "  "),
        ("] {}", "]{}"),
        ("i=\"1\"", "i=\"]\""),
        ("i=\"1\"", "i=1"),
        ("[s@0", "[s@0 ="),
        ("[s@0 i=\"1\"]", ""),
    ] {
        assert!(parse(good.replacen(from, to, 1).as_bytes()).is_err(), "{from} {to}");
    }
}
