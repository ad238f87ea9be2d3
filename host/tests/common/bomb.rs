//! A module that is small to send and long to compile.

/// Nested loops over many variables: each loop's head joins all of them, so the compiler's work is their product. Small to send.
pub fn bomb(loops: usize, variables: usize) -> Vec<u8> {
    let mut wat = String::from(r#"(module (func (export "_start") (local"#);
    wat.push_str(&" i32".repeat(variables));
    wat.push(')');
    wat.push_str(&" (loop".repeat(loops));
    for variable in 0..variables {
        wat.push_str(&format!(
            " (local.set {variable} (i32.add (local.get {variable}) (local.get {})))",
            (variable + 1) % variables
        ));
    }
    wat.push_str(&" (br_if 0 (local.get 0)))".repeat(loops));
    wat.push_str("))");
    wat::parse_str(&wat).unwrap()
}
