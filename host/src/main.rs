//! The `strongroom` command. All of it is `strongroom::cli`.
#![forbid(unsafe_code)]

fn main() -> std::process::ExitCode {
    strongroom::cli::main()
}
