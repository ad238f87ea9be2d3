//! The file of a host that knows several people.

use std::fmt::Write as _;
use std::path::Path;

use strongroom::config::Config;
use strongroom::home::Home;
use strongroom_job::SecretKey;

/// Writes that of a host whose principals, besides its owner, are these: name, key, further lines. It has a queue `held`, and any port.
pub fn put(dir: &Path, principals: &[(&str, &SecretKey, &str)]) {
    let home = Home::create(dir).unwrap();
    let mut text = Config::example(&home.client_key().unwrap().public(), "example.com/principals");
    text = text.replace("127.0.0.1:7433", "127.0.0.1:0");
    text.push_str("\n[queue_rules.held]\n");
    for (name, key, more) in principals {
        let key = key.public();
        write!(text, "[[principals]]\nname = \"{name}\"\nkey = \"{key}\"\n{more}\n").unwrap();
    }
    std::fs::write(home.config(), text).unwrap();
}
