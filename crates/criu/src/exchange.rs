//! One request and its answer as a state machine, without input or output of its own.
//!
//! Packets go in, steps come out. The blocking and the asynchronous client share it.

use std::os::fd::OwnedFd;

use criu_image::wire::Message;

use crate::notify::{Event, Hook, HookError, HookResult};
use crate::request::External;
use crate::rpc::{CriuOpts, CriuReq, CriuReqType, CriuResp};
use crate::transport::Packet;

/// What a packet calls for.
#[derive(Debug)]
pub(crate) enum Step {
    /// Call the hook and send what [`Exchange::reply`] makes of its result.
    Notify(Notification),
    /// The exchange is over.
    Answer(Box<CriuResp>),
    /// The packet cannot be understood.
    Nonsense(String),
}

/// A notification on its way to a hook.
#[derive(Debug)]
pub(crate) struct Notification {
    name: String,
    hook: Option<Hook>,
    pid: i32,
    /// A notification carries at most one; others are closed with this value.
    descriptor: Option<OwnedFd>,
}

impl Notification {
    /// Turns it into the event for the hook, which may add to `external`.
    pub(crate) fn event<'a>(&mut self, external: &'a mut Vec<External>) -> Event<'a> {
        let unknown = |name: &str| Event::Unknown {
            name: name.to_owned(),
        };
        match self.hook {
            Some(Hook::PreStream) => Event::PreStream,
            Some(Hook::PreDump) => Event::PreDump,
            Some(Hook::PostDump) => Event::PostDump,
            Some(Hook::PreRestore) => Event::PreRestore,
            Some(Hook::PostRestore) => Event::PostRestore { pid: self.pid },
            Some(Hook::NetworkLock) => Event::NetworkLock,
            Some(Hook::NetworkUnlock) => Event::NetworkUnlock,
            Some(Hook::SetupNamespaces) => Event::SetupNamespaces { pid: self.pid },
            Some(Hook::PostSetupNamespaces) => Event::PostSetupNamespaces,
            Some(Hook::PreResume) => Event::PreResume,
            Some(Hook::PostResume) => Event::PostResume,
            Some(Hook::StatusReady) => Event::StatusReady,
            Some(Hook::QueryExtFiles) => Event::QueryExtFiles(external),
            Some(Hook::OrphanPtsMaster) => match self.descriptor.take() {
                Some(master) => Event::OrphanPtsMaster(master),
                None => unknown(&self.name),
            },
            None => unknown(&self.name),
        }
    }
}

/// A request under way.
#[derive(Debug)]
pub(crate) struct Exchange {
    kind: CriuReqType,
    last_hook: Option<Hook>,
    refusal: Option<(String, HookError)>,
    panic: Option<Panic>,
}

/// What a panicking hook leaves for [`std::panic::resume_unwind`].
type Panic = Box<dyn std::any::Any + Send>;

impl Exchange {
    pub(crate) fn new(kind: CriuReqType) -> Self {
        Self {
            kind,
            last_hook: None,
            refusal: None,
            panic: None,
        }
    }

    /// Returns the last hook CRIU reached.
    pub(crate) fn last_hook(&self) -> Option<Hook> {
        self.last_hook
    }

    /// Takes the first error of a hook, with the notification's name.
    pub(crate) fn take_refusal(&mut self) -> Option<(String, HookError)> {
        self.refusal.take()
    }

    /// Turns a hook's panic into a refusal, so that CRIU cleans up before the panic goes on.
    pub(crate) fn settle(&mut self, outcome: std::thread::Result<HookResult>) -> HookResult {
        outcome.unwrap_or_else(|panic| {
            self.panic.get_or_insert(panic);
            Err("the hook panicked".into())
        })
    }

    /// Tells whether a hook has panicked: it may not be in a state to be called again.
    pub(crate) fn has_panicked(&self) -> bool {
        self.panic.is_some()
    }

    /// Takes the panic of a hook, to go on with when all is cleaned up.
    pub(crate) fn take_panic(&mut self) -> Option<Panic> {
        self.panic.take()
    }

    /// Takes in what CRIU sent.
    pub(crate) fn step(&mut self, packet: Packet) -> Step {
        let response = match CriuResp::decode(&packet.bytes) {
            Ok(response) => response,
            Err(error) => return Step::Nonsense(error.to_string()),
        };
        match response.r#type {
            CriuReqType::Notify => {
                let notify = response.notify.map(|notify| *notify).unwrap_or_default();
                let name = notify.script.unwrap_or_default().to_string();
                let hook = Hook::from_name(&name);
                self.last_hook = hook.or(self.last_hook);
                Step::Notify(Notification {
                    name,
                    hook,
                    pid: notify.pid.unwrap_or(0),
                    descriptor: packet.descriptors.into_iter().next(),
                })
            }
            // Refusals of a request CRIU cannot place come without a type.
            kind if kind == self.answer_kind() || !response.success => {
                Step::Answer(Box::new(response))
            }
            kind => Step::Nonsense(format!(
                "an answer of type {kind:?} to a request of type {:?}",
                self.kind
            )),
        }
    }

    /// Makes the reply to a notification from its hook's result.
    pub(crate) fn reply(
        &mut self,
        notification: Notification,
        result: HookResult,
        external: &[External],
    ) -> Vec<u8> {
        let mut reply = CriuReq {
            r#type: CriuReqType::Notify,
            notify_success: Some(result.is_ok()),
            ..CriuReq::default()
        };
        if !external.is_empty() {
            reply.opts = Some(Box::new(CriuOpts {
                images_dir_fd: -1,
                external: external.iter().map(|one| one.to_string().into()).collect(),
                ..CriuOpts::default()
            }));
        }
        if let Err(error) = result {
            self.refusal.get_or_insert((notification.name, error));
        }
        reply.encode()
    }

    fn answer_kind(&self) -> CriuReqType {
        match self.kind {
            // CRIU answers this request under the type of the other.
            CriuReqType::PageServerChld => CriuReqType::PageServer,
            kind => kind,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rpc::CriuNotify;

    fn packet(response: &CriuResp) -> Packet {
        Packet {
            bytes: response.encode(),
            descriptors: Vec::new(),
        }
    }

    fn answer(kind: CriuReqType, success: bool) -> Packet {
        packet(&CriuResp {
            r#type: kind,
            success,
            ..CriuResp::default()
        })
    }

    fn notify(name: &str) -> Packet {
        packet(&CriuResp {
            r#type: CriuReqType::Notify,
            success: true,
            notify: Some(Box::new(CriuNotify {
                script: Some(name.into()),
                ..CriuNotify::default()
            })),
            ..CriuResp::default()
        })
    }

    #[test]
    fn a_page_server_child_is_answered_as_a_page_server() {
        let mut exchange = Exchange::new(CriuReqType::PageServerChld);
        assert!(matches!(
            exchange.step(answer(CriuReqType::PageServer, true)),
            Step::Answer(_)
        ));
    }

    #[test]
    fn an_answer_to_another_request_is_nonsense_unless_it_refuses() {
        let mut exchange = Exchange::new(CriuReqType::Dump);
        assert!(matches!(
            exchange.step(answer(CriuReqType::Restore, true)),
            Step::Nonsense(_)
        ));
        assert!(matches!(
            exchange.step(answer(CriuReqType::Empty, false)),
            Step::Answer(_)
        ));
    }

    #[test]
    fn the_first_refusal_is_kept_and_sent() {
        let mut exchange = Exchange::new(CriuReqType::Dump);
        for (name, error) in [("pre-dump", "first"), ("network-unlock", "second")] {
            let Step::Notify(notification) = exchange.step(notify(name)) else {
                panic!()
            };
            let reply = exchange.reply(notification, Err(error.into()), &[]);
            assert_eq!(CriuReq::decode(&reply).unwrap().notify_success, Some(false));
        }
        assert_eq!(exchange.last_hook(), Some(Hook::NetworkUnlock));
        let (hook, error) = exchange.take_refusal().unwrap();
        assert_eq!(
            (hook.as_str(), error.to_string().as_str()),
            ("pre-dump", "first")
        );
    }

    #[test]
    fn external_files_travel_in_the_reply() {
        let mut exchange = Exchange::new(CriuReqType::Dump);
        let Step::Notify(notification) = exchange.step(notify("query-ext-files")) else {
            panic!()
        };
        let external = [External::UnixSocket { inode: 7 }];
        let reply = CriuReq::decode(&exchange.reply(notification, Ok(()), &external)).unwrap();
        assert_eq!(reply.opts.unwrap().external, ["unix[7]"]);
        assert_eq!(reply.notify_success, Some(true));
    }

    #[test]
    fn unknown_notifications_become_unknown_events() {
        let mut exchange = Exchange::new(CriuReqType::Restore);
        let Step::Notify(mut notification) = exchange.step(notify("post-quantum")) else {
            panic!()
        };
        let mut external = Vec::new();
        let event = notification.event(&mut external);
        assert!(matches!(event, Event::Unknown { name } if name == "post-quantum"));
    }
}
