//! The command `criuctl`.

fn main() -> std::process::ExitCode {
    criu_cli::criuctl::main()
}
