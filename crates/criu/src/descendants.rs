//! The processes below a worker: what a restore that is cut short leaves half made.

use std::fs;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};

/// Tasks may be born while others are ended; after so many looks those left are let be.
const ROUNDS: usize = 16;

/// Kills every process below `ancestor`, which has to be stopped, so that it makes no new ones.
pub(crate) fn kill_below(ancestor: u32) {
    for _ in 0..ROUNDS {
        let mut alive = below(ancestor);
        alive.retain(|&pid| is_alive(pid));
        if alive.is_empty() {
            return;
        }
        for pid in alive {
            // Its parent is stopped or dead, so nobody has reaped it: the id is still its own.
            let process = Pid::from_raw(pid).map(|pid| pidfd_open(pid, PidfdFlags::empty()));
            if let Some(Ok(process)) = process {
                let _ = pidfd_send_signal(process, Signal::KILL);
            }
        }
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

fn is_alive(pid: i32) -> bool {
    // `PID (COMM) STATE ...`, where COMM may hold parentheses and spaces itself (proc_pid_stat(5)).
    let stat = fs::read(format!("/proc/{pid}/stat")).unwrap_or_default();
    let end = stat.iter().rposition(|&byte| byte == b')');
    let state = end.and_then(|end| stat.get(end + 2));
    !matches!(state, None | Some(b'Z' | b'X'))
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
        assert!(!is_alive(grandchild));
        shell.kill().unwrap();
        shell.wait().unwrap();
    }
}
