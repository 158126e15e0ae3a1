//! The processes below a worker: what a restore that is cut short leaves half made.

use std::fs;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

/// How often it is looked whether all have come to a stop, a millisecond apart.
const ROUNDS: usize = 500;

/// Kills every process below `ancestor`, which has to be stopped, so that it makes no new ones.
pub(crate) fn kill_below(ancestor: u32) {
    // A parent killed in the middle of a fork leaves a child that is no longer found below: all are
    // stopped before the first is killed.
    let mut stopped: Vec<i32> = Vec::new();
    for _ in 0..ROUNDS {
        let found = below(ancestor);
        let new = found.iter().filter(|pid| !stopped.contains(pid));
        let any_new = new.fold(false, |_, &pid| {
            send(pid, Signal::STOP);
            true
        });
        if !any_new && !found.iter().any(|&pid| is_on_its_way(pid)) {
            break;
        }
        stopped = found;
        std::thread::sleep(Duration::from_millis(1));
    }
    for pid in stopped {
        send(pid, Signal::KILL);
    }
}

fn send(pid: i32, signal: Signal) {
    // Its parent is stopped or dead by us, so nobody has reaped it: the id is still its own.
    if let Some(pid) = Pid::from_raw(pid) {
        let _ = kill_process(pid, signal);
    }
}

/// Lists the processes below one, nearest first.
fn below(ancestor: u32) -> Vec<i32> {
    let mut found = children(&ancestor.to_string());
    let mut next = 0;
    while let Some(pid) = found.get(next) {
        let children = children(&pid.to_string());
        found.extend(children);
        next += 1;
    }
    found
}

/// Lists the children of all threads of a process (proc_pid_task_tid_children(5)).
fn children(pid: &str) -> Vec<i32> {
    let threads = fs::read_dir(format!("/proc/{pid}/task"));
    threads
        .into_iter()
        .flatten()
        .flatten()
        .filter_map(|thread| fs::read_to_string(thread.path().join("children")).ok())
        .flat_map(|text| {
            let pids = text.split_whitespace().map_while(|word| word.parse().ok());
            pids.collect::<Vec<i32>>()
        })
        .collect()
}

/// Tells whether the process is neither stopped, nor held by a tracer, nor dead.
fn is_on_its_way(pid: i32) -> bool {
    // `PID (COMM) STATE ...`, where COMM may hold parentheses and spaces itself (proc_pid_stat(5)).
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let end = stat.iter().rposition(|&byte| byte == b')');
    let state = end.and_then(|end| stat.get(end + 2));
    !matches!(state, None | Some(b'T' | b't' | b'Z' | b'X'))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{BufRead, BufReader};
    use std::process::{Command, Stdio};

    #[test]
    fn children_and_their_children_are_ended() {
        let mut shell = Command::new("sh")
            .args(["-c", "sh -c 'sleep 1000 & echo $!; wait' & wait"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(shell.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let grandchild: i32 = line.trim().parse().unwrap();
        assert!(below(shell.id()).contains(&grandchild));
        let pid = Pid::from_child(&shell);
        rustix::process::kill_process(pid, Signal::STOP).unwrap();
        kill_below(shell.id());
        while is_on_its_way(grandchild) {
            std::thread::sleep(Duration::from_millis(1));
        }
        shell.kill().unwrap();
        shell.wait().unwrap();
    }
}
