//! Everything a person or CI runs, behind one command: `cargo xtask TASK`.
//!
//! A fresh machine has cargo and little else, so the tasks fetch what they need and say what they do.

use std::process::ExitCode;

use failure::Outcome;

mod apt;
mod codegen;
mod criu;
mod demo;
mod dist;
mod examples;
mod failure;
mod fixtures;
mod fuzz;
mod guest;
mod harness;
mod licences;
mod oracle;
mod packages;
mod soak;
mod stage;
mod suite;
mod tool;
mod trial;

/// One task: its name, its arguments, what it does in a line, and the function that does it.
struct Task {
    name: &'static str,
    arguments: &'static str,
    about: &'static str,
    run: fn(&[String]) -> Outcome<()>,
}

/// The tasks in the order the help lists them.
const TASKS: &[Task] = &[
    Task {
        name: "demo",
        arguments: "",
        about: "checkpoint and restore a process that counts, in front of you",
        run: demo::task,
    },
    Task {
        name: "test",
        arguments: "",
        about: "everything CI asks: obtain CRIU, format, lints, documentation, tests, examples, licences",
        run: suite::task,
    },
    Task {
        name: "criu",
        arguments: "[--version 4.2|4.3]",
        about: "find or obtain a working CRIU, print its path and version",
        run: criu::task,
    },
    Task {
        name: "oracle",
        arguments: "",
        about: "obtain Python CRIT 4.3, which our `crit` is compared with, and print how to run it",
        run: oracle::task,
    },
    Task {
        name: "guest",
        arguments: "PROGRAM [ARGUMENT...]",
        about: "run a program in a guest whose kernel tracks memory changes",
        run: guest::task,
    },
    Task {
        name: "fixtures",
        arguments: "[SET...]",
        about: "make the image sets under fixtures/ anew, with both CRIUs",
        run: fixtures::task,
    },
    Task {
        name: "fuzz",
        arguments: "[TARGET...] [--seconds N] [--seed N]",
        about: "feed damaged images, replies and logs to the libraries; also one input: fuzz TARGET --input FILE",
        run: fuzz::task,
    },
    Task {
        name: "soak",
        arguments: "[--minutes N | --rounds N] [FILTER]",
        about: "kill, stop and cut off every party of a migration at every point, in every mode, with both CRIUs",
        run: soak::task,
    },
    Task {
        name: "dist",
        arguments: "",
        about: "build the release archive with completions and man pages",
        run: dist::task,
    },
    Task {
        name: "codegen",
        arguments: "[--check]",
        about: "generate the messages and their tables from schema/criu.json, or check that they are up to date",
        run: codegen::task,
    },
];

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let Some((name, rest)) = arguments.split_first() else {
        print_help();
        return ExitCode::from(2);
    };
    if matches!(name.as_str(), "help" | "--help" | "-h") {
        print_help();
        return ExitCode::SUCCESS;
    }
    let Some(task) = TASKS.iter().find(|task| task.name == name) else {
        eprintln!("xtask: there is no task `{name}`\n");
        print_help();
        return ExitCode::from(2);
    };
    match (task.run)(rest) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("xtask {name}: {failure}");
            ExitCode::FAILURE
        }
    }
}

fn print_help() {
    println!("usage: cargo xtask TASK\n\ntasks:");
    for task in TASKS {
        println!(
            "  {:<28} {}",
            format!("{} {}", task.name, task.arguments),
            task.about
        );
    }
}
