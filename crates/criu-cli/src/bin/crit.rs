//! The command `crit`.

fn main() -> std::process::ExitCode {
    criu_cli::crit::main()
}
