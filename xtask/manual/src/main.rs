//! Writes the manual pages and shell completions of our commands: `manual DIRECTORY`. Run by `cargo xtask dist`.
//!
//! A program of its own, so that neither the commands carry what makes their manuals, nor xtask, which a newcomer
//! compiles first, the commands.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use clap_complete::Shell;

fn main() -> io::Result<()> {
    let Some(root) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "usage: manual DIRECTORY",
        ));
    };
    for command in [criu_cli::criuctl::command(), criu_cli::crit::command()] {
        write(command.version(env!("CARGO_PKG_VERSION")), &root)?;
    }
    Ok(())
}

fn write(command: clap::Command, root: &Path) -> io::Result<()> {
    let name = command.get_name().to_owned();
    let pages = root.join("share/man/man1");
    fs::create_dir_all(&pages)?;
    clap_mangen::generate_to(command.clone(), &pages)?;
    let completions = [
        (Shell::Bash, "share/bash-completion/completions"),
        (Shell::Zsh, "share/zsh/site-functions"),
        (Shell::Fish, "share/fish/vendor_completions.d"),
    ];
    for (shell, place) in completions {
        let place = root.join(place);
        fs::create_dir_all(&place)?;
        let written = clap_complete::generate_to(shell, &mut command.clone(), &name, &place)?;
        if shell == Shell::Bash {
            // Bash looks for a file called as the command.
            fs::rename(written, place.join(&name))?;
        }
    }
    Ok(())
}
