use std::io::{self, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use criu_testkit::{CertificateAuthority, CertificateFiles, TempDir, Validity};

use super::*;
use crate::transport::{Bell, Halves, Stream};

const HERE: &str = "here.example";
const THERE: &str = "there.example";

/// An authority, the certificates of two hosts, and where they are.
struct Office {
    directory: TempDir,
    authority: CertificateAuthority,
    here: CertificateFiles,
    there: CertificateFiles,
}

impl Office {
    fn open() -> Self {
        Self::of("an authority")
    }

    fn of(authority: &str) -> Self {
        let directory = TempDir::new();
        let authority = CertificateAuthority::new(authority);
        authority.write(directory.path(), "ca.pem");
        let issue =
            |name, hosts: &[&str]| authority.issue(directory.path(), name, hosts, Validity::Now);
        Self {
            here: issue("here", &[HERE]),
            there: issue("there", &["other.example", THERE, "192.0.2.7"]),
            authority,
            directory,
        }
    }

    fn ca(&self) -> Authority {
        Authority::read(self.directory.join("ca.pem")).unwrap()
    }

    fn client(&self, name: &str) -> Client {
        Client::new(&identity(&self.here), &self.ca(), name.parse().unwrap()).unwrap()
    }

    fn server(&self, names: &[&str]) -> Server {
        let names: Vec<Name> = names.iter().map(|name| name.parse().unwrap()).collect();
        Server::new(&identity(&self.there), &self.ca(), &names).unwrap()
    }
}

fn identity(files: &CertificateFiles) -> Identity {
    Identity::read(&files.certificate, &files.key).unwrap()
}

fn within(time: Duration) -> Option<Instant> {
    Some(Instant::now() + time)
}

const PATIENCE: Duration = Duration::from_secs(20);

/// One end after the handshake.
#[derive(Debug)]
struct End {
    peer: String,
    halves: Halves,
}

impl End {
    fn of(secured: Secured) -> Self {
        Self {
            peer: secured.peer(),
            halves: Box::new(secured).split().unwrap(),
        }
    }

    /// What comes next, within a time that is short but for a peer in this process.
    fn hear(&mut self, bell: &Bell) -> io::Result<usize> {
        let wait = Wait::new(within(Duration::from_millis(500)), bell);
        self.halves.receiver.receive(&mut [0; 16], &wait)
    }
}

/// Both ends' handshakes over one stream.
fn meet(client: &Client, server: &Server) -> (Result<End, Error>, Result<End, Error>) {
    let (near, far) = Stream::pair().unwrap();
    let bell = Bell::new().unwrap();
    let wait = Wait::new(within(PATIENCE), &bell);
    std::thread::scope(|scope| {
        let served = scope.spawn(|| server.secure(Box::new(far), &wait).map(End::of));
        let connected = client.secure(Box::new(near), &wait).map(End::of);
        // With TLS 1.3 the server's verdict comes after the client's handshake.
        let connected = connected.and_then(|mut end| match end.hear(&bell) {
            Err(error) if error.kind() == io::ErrorKind::TimedOut => Ok(end),
            heard => Err(inside(heard.unwrap_err())),
        });
        (connected, served.join().unwrap())
    })
}

/// Two ends that trust each other.
fn ends() -> (End, End) {
    let office = Office::open();
    let (near, far) = meet(&office.client(THERE), &office.server(&[]));
    (near.unwrap(), far.unwrap())
}

/// The error of ours in one of the system's.
#[track_caller]
fn inside(error: io::Error) -> Error {
    *error.into_inner().unwrap().downcast().unwrap()
}

/// A server that somebody without our TLS connects to.
fn serve(act: impl FnOnce(&mut UnixStream) + Send, time: Duration) -> Error {
    let office = Office::open();
    let server = office.server(&[]);
    let (near, mut far) = UnixStream::pair().unwrap();
    let stream = Stream::descriptors(&near, &near, "a stranger").unwrap();
    drop(near);
    let bell = Bell::new().unwrap();
    std::thread::scope(|scope| {
        let stranger = scope.spawn(move || act(&mut far));
        let error = server
            .secure(Box::new(stream), &Wait::new(within(time), &bell))
            .unwrap_err();
        stranger.join().unwrap();
        error
    })
}

/// Bytes that are wrong if one is missing, doubled or out of place.
fn pattern(start: usize, buffer: &mut [u8]) {
    for (at, byte) in buffer.iter_mut().enumerate() {
        let at = start + at;
        *byte = u8::try_from((at ^ (at >> 8) ^ (at >> 17)) & 0xff).unwrap();
    }
}

fn send(halves: &mut dyn crate::transport::Transmit, count: usize, wait: &Wait<'_>) {
    let mut buffer = vec![0; 200_000];
    let mut sent = 0;
    while sent < count {
        let len = buffer.len().min(count - sent);
        pattern(sent, &mut buffer[..len]);
        let mut left = &buffer[..len];
        while !left.is_empty() {
            let written = halves.transmit(left, wait).unwrap();
            assert_ne!(written, 0);
            left = &left[written..];
        }
        sent += len;
    }
}

/// Receives to the end; returns how many bytes came, all of the pattern.
fn take(halves: &mut dyn crate::transport::Receive, wait: &Wait<'_>) -> usize {
    let (mut buffer, mut expected) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut taken = 0;
    loop {
        let count = halves.receive(&mut buffer, wait).unwrap();
        if count == 0 {
            return taken;
        }
        pattern(taken, &mut expected[..count]);
        assert!(buffer[..count] == expected[..count], "after {taken} bytes");
        taken += count;
    }
}

#[test]
fn both_directions_carry_much_at_once_and_end_in_order() {
    let count = 110 << 20;
    let (near, far) = ends();
    let bell = Bell::new().unwrap();
    let wait = Wait::new(within(PATIENCE * 10), &bell);
    let wait = &wait;
    std::thread::scope(|scope| {
        let mut takers = Vec::new();
        for end in [near, far] {
            let (mut receiver, mut sender) = (end.halves.receiver, end.halves.sender);
            scope.spawn(move || send(&mut *sender, count, wait));
            takers.push(scope.spawn(move || {
                let taken = take(&mut *receiver, wait);
                // The end stays the end.
                assert_eq!(receiver.receive(&mut [0; 8], wait).unwrap(), 0);
                taken
            }));
        }
        for taker in takers {
            assert_eq!(taker.join().unwrap(), count);
        }
    });
}

#[test]
fn a_big_transfer_does_not_keep_the_other_direction_waiting() {
    let (near, far) = ends();
    let bell = Bell::new().unwrap();
    let wait = Wait::new(within(PATIENCE * 10), &bell);
    let wait = &wait;
    std::thread::scope(|scope| {
        let (mut out, mut back) = (near.halves.sender, near.halves.receiver);
        let (mut arriving, mut answering) = (far.halves.receiver, far.halves.sender);
        let sender = scope.spawn(move || {
            send(&mut *out, 128 << 20, wait);
            Instant::now()
        });
        scope.spawn(move || take(&mut *arriving, wait));
        let answerer = scope.spawn(move || {
            for _ in 0..20 {
                assert_eq!(answering.transmit(b"beat", wait).unwrap(), 4);
                std::thread::sleep(Duration::from_millis(2));
            }
            answering
        });
        let mut heard = 0;
        while heard < 80 {
            heard += back.receive(&mut [0; 4], wait).unwrap();
        }
        let all_heard = Instant::now();
        drop(answerer.join().unwrap());
        assert_eq!(back.receive(&mut [0; 4], wait).unwrap(), 0);
        // Twenty beats take 40 ms and more; the transfer, several times that.
        assert!(all_heard < sender.join().unwrap());
    });
}

#[test]
fn the_bell_and_the_deadline_end_waiting_on_both_directions() {
    let (mut near, mut far) = ends();
    let bell = Bell::new().unwrap();
    let error = near.hear(&bell).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    let full = |end: &mut End, wait: &Wait<'_>| -> (usize, io::ErrorKind) {
        let mut sent = 0;
        loop {
            let mut buffer = vec![0; 100_000];
            pattern(sent, &mut buffer);
            match end.halves.sender.transmit(&buffer, wait) {
                Ok(count) => sent += count,
                Err(error) => return (sent, error.kind()),
            }
        }
    };
    let soon = Wait::new(within(Duration::from_millis(50)), &bell);
    let (sent, kind) = full(&mut near, &soon);
    assert_eq!(kind, io::ErrorKind::TimedOut);
    let ringer = bell.clone();
    let thread = std::thread::spawn(move || {
        std::thread::sleep(Duration::from_millis(50));
        ringer.ring();
    });
    let ever = Wait::new(None, &bell);
    assert_eq!(full(&mut near, &ever), (0, io::ErrorKind::Interrupted));
    let error = near.halves.receiver.receive(&mut [0; 8], &ever);
    assert_eq!(error.unwrap_err().kind(), io::ErrorKind::Interrupted);
    thread.join().unwrap();
    // What was taken before the waiting ended arrives, once: nothing is torn by it.
    let silent = Bell::new().unwrap();
    let wait = Wait::new(within(PATIENCE), &silent);
    let taken = std::thread::scope(|scope| {
        let taken = scope.spawn(|| {
            let (mut buffer, mut expected) = (vec![0; 4096], vec![0; 4096]);
            let mut taken = 0;
            while taken < sent {
                let count = far.halves.receiver.receive(&mut buffer, &wait).unwrap();
                pattern(taken, &mut expected[..count]);
                assert!(buffer[..count] == expected[..count], "after {taken} bytes");
                taken += count;
            }
            assert_eq!(far.halves.receiver.receive(&mut buffer, &wait).unwrap(), 3);
            taken
        });
        assert_eq!(near.halves.sender.transmit(b"end", &wait).unwrap(), 3);
        taken.join().unwrap()
    });
    assert_eq!(taken, sent);
}

#[test]
fn a_stream_cut_off_is_no_end() {
    let office = Office::open();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (far, _) = listener.accept().unwrap();
    let knife = near.try_clone().unwrap();
    let bell = Bell::new().unwrap();
    let wait = Wait::new(within(PATIENCE), &bell);
    let (client, server) = (office.client(THERE), office.server(&[]));
    let (mut near, mut far) = std::thread::scope(|scope| {
        let far = scope.spawn(|| {
            let stream = Stream::tcp(far).unwrap();
            End::of(server.secure(Box::new(stream), &wait).unwrap())
        });
        let stream = Stream::tcp(near).unwrap();
        let near = End::of(client.secure(Box::new(stream), &wait).unwrap());
        (near, far.join().unwrap())
    });
    near.halves.sender.transmit(b"the last", &wait).unwrap();
    knife.shutdown(Shutdown::Write).unwrap();
    assert_eq!(far.hear(&bell).unwrap(), 8);
    let error = far.hear(&bell).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    // The other direction is whole, and ends as it should.
    drop(far.halves.sender);
    assert_eq!(near.hear(&bell).unwrap(), 0);
}

#[test]
fn a_record_altered_on_the_way_is_refused() {
    let (mut near, mut far) = {
        let office = Office::open();
        let (client, middle_near) = UnixStream::pair().unwrap();
        let (middle_far, server) = UnixStream::pair().unwrap();
        let bell = Bell::new().unwrap();
        let wait = Wait::new(within(PATIENCE), &bell);
        // Passes everything on, but alters a record of a thousand bytes.
        let pass = |mut from: UnixStream, mut to: UnixStream, alter: bool| {
            std::thread::spawn(move || {
                let mut buffer = vec![0; 64 << 10];
                while let Ok(count @ 1..) = from.read(&mut buffer) {
                    if alter && count == 5 + 1000 + 1 + 16 {
                        buffer[count - 1] ^= 1;
                    }
                    if to.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
                let _ = to.shutdown(Shutdown::Write);
            })
        };
        pass(
            middle_near.try_clone().unwrap(),
            middle_far.try_clone().unwrap(),
            true,
        );
        pass(middle_far, middle_near, false);
        let stream = |socket: UnixStream| {
            Box::new(Stream::descriptors(&socket, &socket, "somebody").unwrap())
        };
        let (client_end, server_end) = (office.client(THERE), office.server(&[]));
        std::thread::scope(|scope| {
            let far = scope.spawn(|| End::of(server_end.secure(stream(server), &wait).unwrap()));
            let near = End::of(client_end.secure(stream(client), &wait).unwrap());
            (near, far.join().unwrap())
        })
    };
    let bell = Bell::new().unwrap();
    let wait = Wait::new(within(PATIENCE), &bell);
    near.halves.sender.transmit(b"whole", &wait).unwrap();
    assert_eq!(far.hear(&bell).unwrap(), 5);
    near.halves.sender.transmit(&[7; 1000], &wait).unwrap();
    let error = far.hear(&bell).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidData);
    assert!(matches!(inside(error), Error::Protocol { .. }));
}

#[test]
fn each_side_knows_the_other_by_name() {
    let office = Office::open();
    let (near, far) = meet(&office.client(THERE), &office.server(&["x.example", HERE]));
    let near = near.unwrap().peer;
    assert_eq!(near, "this process, certified as there.example");
    assert_eq!(far.unwrap().peer, "this process, certified as here.example");
    // An address is a name like any other, and no name is anybody of the authority.
    let (near, far) = meet(&office.client("192.0.2.7"), &office.server(&[]));
    assert!(near.is_ok());
    assert_eq!(far.unwrap().peer, "this process, certified");
}

#[test]
fn a_server_of_another_name_is_refused_by_the_client() {
    let office = Office::open();
    for name in ["nowhere.example", "192.0.2.8"] {
        let (near, far) = meet(&office.client(name), &office.server(&[]));
        let Error::PeerCertificate(Distrust::Name {
            expected,
            presented,
        }) = near.unwrap_err()
        else {
            panic!("{name}");
        };
        assert_eq!(expected, [name]);
        assert!(presented.contains(&THERE.to_owned()), "{presented:?}");
        assert!(matches!(far.unwrap_err(), Error::Refused(_)));
    }
}

#[test]
fn a_client_of_another_name_is_refused_by_the_server_and_told() {
    let office = Office::open();
    let (near, far) = meet(
        &office.client(THERE),
        &office.server(&["x.example", "y.example"]),
    );
    let far = far.unwrap_err();
    let said = far.to_string();
    assert!(
        said.contains("is for here.example, not for x.example or y.example"),
        "{said}"
    );
    let near = near.unwrap_err();
    assert!(matches!(near, Error::Refused(_)), "{near:?}");
    assert!(
        near.to_string().contains("none of the names it lets in"),
        "{near}"
    );
}

#[test]
fn certificates_of_another_authority_are_refused() {
    let ours = Office::of("ours");
    // One made anew under the old name has another key all the same.
    for theirs in [Office::of("theirs"), Office::of("ours")] {
        let unknown = |end: &Result<End, Error>| {
            matches!(end, Err(Error::PeerCertificate(Distrust::UnknownAuthority)))
        };
        let (near, far) = meet(&ours.client(THERE), &theirs.server(&[]));
        assert!(unknown(&near), "{near:?}");
        assert!(matches!(far, Err(Error::Refused(_))), "{far:?}");
        // A client that trusts the server all the same, but is of another authority.
        let client = Client::new(&identity(&ours.here), &theirs.ca(), THERE.parse().unwrap());
        let (near, far) = meet(&client.unwrap(), &theirs.server(&[HERE]));
        assert!(unknown(&far), "{far:?}");
        let near = near.unwrap_err().to_string();
        assert!(near.contains("not of an authority it knows"), "{near}");
    }
}

#[test]
fn revoked_certificates_are_refused() {
    let office = Office::open();
    let directory = office.directory.path();
    let list = |name: &str, certificates: &[&str], validity| {
        let path = office
            .authority
            .revoke(directory, name, certificates, validity);
        office.ca().revoked_by(path).unwrap()
    };
    let meet_with = |authority: &Authority| {
        let client = Client::new(&identity(&office.here), authority, THERE.parse().unwrap());
        let server = Server::new(&identity(&office.there), authority, &[]);
        meet(&client.unwrap(), &server.unwrap())
    };
    let (near, far) = meet_with(&list("nobody.pem", &["elsewhere"], Validity::Now));
    assert!(near.is_ok() && far.is_ok(), "{near:?} {far:?}");

    let (near, far) = meet_with(&list("client.pem", &["here"], Validity::Now));
    let revoked =
        |end: &Result<End, Error>| matches!(end, Err(Error::PeerCertificate(Distrust::Revoked)));
    assert!(revoked(&far), "{far:?}");
    let near = near.unwrap_err().to_string();
    assert!(near.contains("our certificate was revoked"), "{near}");
    let (near, far) = meet_with(&list("server.pem", &["there"], Validity::Now));
    assert!(revoked(&near) && far.is_err(), "{near:?} {far:?}");

    let (near, _) = meet_with(&list("old.pem", &[], Validity::Past));
    let old = Distrust::OldRevocationList;
    assert!(
        matches!(&near, Err(Error::PeerCertificate(found)) if *found == old),
        "{near:?}"
    );
    // Of an authority that has signed nothing here.
    let theirs = CertificateAuthority::new("theirs");
    let foreign = theirs.revoke(directory, "foreign.pem", &[], Validity::Now);
    let (near, _) = meet_with(&office.ca().revoked_by(foreign).unwrap());
    let unknown = Distrust::NoRevocationList;
    assert!(
        matches!(&near, Err(Error::PeerCertificate(found)) if *found == unknown),
        "{near:?}"
    );

    let none = office.ca().revoked_by(&office.here.certificate);
    assert!(matches!(none, Err(Error::NoRevocations(_))), "{none:?}");
    let damaged = directory.join("damaged.pem");
    let text = "-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n";
    std::fs::write(&damaged, text).unwrap();
    let damaged = office.ca().revoked_by(damaged);
    assert!(
        matches!(damaged, Err(Error::Revocations { .. })),
        "{damaged:?}"
    );
}

#[test]
fn certificates_out_of_their_time_are_refused_here_and_there() {
    let office = Office::open();
    let directory = office.directory.path();
    for (validity, name) in [(Validity::Past, "past"), (Validity::Future, "future")] {
        let files = office.authority.issue(directory, name, &[HERE], validity);
        let error = Client::new(&identity(&files), &office.ca(), THERE.parse().unwrap());
        let error = error.unwrap_err();
        assert!(matches!(error, Error::OutOfTime { .. }), "{error:?}");
        assert!(
            error.to_string().contains(&format!("{name}.pem")),
            "{error}"
        );
        // One that does not look at its own clock.
        let mut client = office.client(THERE);
        Arc::get_mut(&mut client.config)
            .unwrap()
            .client_auth_cert_resolver = identity(&files).resolver();
        let (near, far) = meet(&client, &office.server(&[]));
        assert!(matches!(
            (validity, far.unwrap_err()),
            (Validity::Past, Error::PeerCertificate(Distrust::Expired))
                | (
                    Validity::Future,
                    Error::PeerCertificate(Distrust::NotYetValid)
                )
        ));
        let near = near.unwrap_err().to_string();
        assert!(near.contains("out of its time"), "{near}");
    }
}

#[test]
fn a_client_without_a_certificate_is_refused() {
    let office = Office::open();
    let mut client = office.client(THERE);
    let config = Arc::get_mut(&mut client.config).unwrap();
    config.client_auth_cert_resolver = Arc::new(Nobody);
    let (near, far) = meet(&client, &office.server(&[]));
    assert!(matches!(far, Err(Error::Anonymous)));
    let near = near.unwrap_err().to_string();
    assert!(near.contains("wants a certificate"), "{near}");
}

#[derive(Debug)]
struct Nobody;

impl rustls::client::ResolvesClientCert for Nobody {
    fn resolve(
        &self,
        _: &[&[u8]],
        _: &[SignatureScheme],
    ) -> Option<Arc<rustls::sign::CertifiedKey>> {
        None
    }

    fn has_certs(&self) -> bool {
        false
    }
}

#[test]
fn another_protocol_under_the_same_authority_is_refused() {
    let office = Office::open();
    let mut client = office.client(THERE);
    Arc::get_mut(&mut client.config).unwrap().alpn_protocols = vec![b"h2".to_vec()];
    let (near, far) = meet(&client, &office.server(&[]));
    assert!(matches!(near, Err(Error::Refused(_))), "{near:?}");
    assert!(matches!(far, Err(Error::Protocol { .. })), "{far:?}");
}

#[test]
fn peers_without_tls_are_told_apart_from_broken_ones() {
    let plain = crate::frame::encode_preamble();
    for bytes in [&plain[..], b"GET / HTTP/1.1\r\n\r\n", &[0xff; 4096]] {
        let error = serve(|stranger| drop(stranger.write_all(bytes)), PATIENCE);
        assert!(matches!(error, Error::NotTls), "{error:?}");
    }
    // A record that is one, with nonsense inside.
    let record = [22, 3, 1, 0, 4, 9, 9, 9, 9];
    let error = serve(|stranger| drop(stranger.write_all(&record)), PATIENCE);
    assert!(
        !matches!(error, Error::TooSlow | Error::Closed),
        "{error:?}"
    );
    let error = serve(|_| {}, PATIENCE);
    assert!(matches!(error, Error::Closed), "{error:?}");
}

#[test]
fn a_client_that_meets_no_tls_says_so() {
    let office = Office::open();
    let (near, mut far) = UnixStream::pair().unwrap();
    far.write_all(&crate::frame::encode_preamble()).unwrap();
    let stream = Stream::descriptors(&near, &near, "plain").unwrap();
    let bell = Bell::new().unwrap();
    let wait = Wait::new(within(PATIENCE), &bell);
    let error = office.client(THERE).secure(Box::new(stream), &wait);
    assert!(matches!(error, Err(Error::NotTls)), "{error:?}");
}

#[test]
fn a_handshake_in_drips_ends_at_the_deadline() {
    let began = Instant::now();
    // A record of 16 KiB, which takes 80 s at this rate.
    let drip = |stranger: &mut UnixStream| {
        for byte in [22, 3, 1, 0x40, 0, 1, 0, 0x3f, 0xfc]
            .iter()
            .chain(&[0; 1 << 14])
        {
            if stranger.write_all(&[*byte]).is_err() {
                return;
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    };
    let error = serve(drip, Duration::from_millis(300));
    assert!(matches!(error, Error::TooSlow), "{error:?}");
    assert!(
        began.elapsed() < Duration::from_secs(5),
        "{:?}",
        began.elapsed()
    );
}

#[test]
fn files_are_refused_for_what_is_wrong_with_them() {
    let office = Office::open();
    let at = |name: &str| office.directory.join(name);
    let text = |name: &str, text: &str| {
        std::fs::write(at(name), text).unwrap();
        std::fs::set_permissions(at(name), std::fs::Permissions::from_mode(0o600)).unwrap();
        at(name)
    };
    let read = |certificate: &std::path::Path, key: &std::path::Path| {
        let error = Identity::read(certificate, key).unwrap_err();
        let said = error.to_string();
        (error, said)
    };
    let (certificate, key) = (&office.here.certificate, &office.here.key);

    let (error, said) = read(&at("absent"), key);
    assert!(
        matches!(error, Error::Read { .. }) && said.contains("absent"),
        "{said}"
    );
    let (error, said) = read(key, key);
    assert!(
        matches!(error, Error::NoCertificate(_)) && said.contains("here.key"),
        "{said}"
    );
    let pem = std::fs::read_to_string(certificate).unwrap();
    let (error, said) = read(certificate, &text("certificate.key", &pem));
    assert!(
        matches!(error, Error::NoKey(_)) && said.contains("certificate.key"),
        "{said}"
    );
    let (error, said) = read(&text("half", &pem[..pem.len() / 2]), key);
    assert!(
        matches!(error, Error::Malformed { .. }) && said.contains("half"),
        "{said}"
    );
    let sealed =
        "-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n";
    let (error, said) = read(certificate, &text("sealed", sealed));
    assert!(
        matches!(error, Error::EncryptedKey(_)) && said.contains("openssl pkey"),
        "{said}"
    );
    let nonsense = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
    let (error, said) = read(certificate, &text("nonsense", nonsense));
    assert!(
        matches!(error, Error::Key { .. }) && said.contains("nonsense"),
        "{said}"
    );
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let (error, said) = read(&text("junk", junk), key);
    assert!(
        matches!(error, Error::Certificate { .. }) && said.contains("junk"),
        "{said}"
    );
    let error = Authority::read(at("junk")).unwrap_err();
    assert!(matches!(error, Error::Certificate { .. }), "{error:?}");
    let error = Authority::read(key).unwrap_err();
    assert!(matches!(error, Error::NoCertificate(_)), "{error:?}");
    let error = Authority::read("/dev/zero").unwrap_err();
    assert!(matches!(error, Error::TooLong { .. }), "{error:?}");
    let (error, said) = read(certificate, &office.there.key);
    assert!(matches!(error, Error::KeyMismatch { .. }), "{error:?}");
    assert!(
        said.contains("there.key") && said.contains("here.pem"),
        "{said}"
    );

    for mode in [0o640, 0o604, 0o620] {
        std::fs::set_permissions(key, std::fs::Permissions::from_mode(mode)).unwrap();
        let (error, said) = read(certificate, key);
        assert!(matches!(error, Error::OpenKey { mode: found, .. } if found == mode));
        assert!(said.contains(&format!("(mode {mode:04o})")), "{said}");
    }
    std::fs::set_permissions(key, std::fs::Permissions::from_mode(0o400)).unwrap();
    assert!(Identity::read(certificate, key).is_ok());
    assert!(matches!("not a name".parse::<Name>(), Err(Error::Name(_))));
}

#[test]
fn certificates_made_as_the_documentation_says_do() {
    if std::process::Command::new("openssl")
        .arg("version")
        .output()
        .is_err()
    {
        criu_testkit::skip!(Avoidable, "there is no openssl");
    }
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/migration.md");
    let text = std::fs::read_to_string(path).unwrap();
    let mut scripts = text.split("```sh\n").skip(1);
    let mut script = || scripts.next().unwrap().split_once("```").unwrap().0;
    let directory = TempDir::new();
    let run = |script| {
        let mut shell = std::process::Command::new("sh");
        let shell = shell.args(["-ec", script]).current_dir(directory.path());
        let output = shell.output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}");
    };
    run(script());
    let at = |name: &str| directory.join(name);
    let authority = Authority::read(at("ca.pem")).unwrap();
    let here = Identity::read(at("here.pem"), at("here.key")).unwrap();
    let there = Identity::read(at("there.pem"), at("there.key")).unwrap();
    let names = ["here.example".parse().unwrap()];
    let server = Server::new(&there, &authority, &names).unwrap();
    for name in ["there.example", "192.0.2.2"] {
        let client = Client::new(&here, &authority, name.parse().unwrap()).unwrap();
        let (near, far) = meet(&client, &server);
        near.unwrap();
        far.unwrap();
    }
    run(script());
    let authority = authority.revoked_by(at("crl.pem")).unwrap();
    let server = Server::new(&there, &authority, &names).unwrap();
    let client = Client::new(&here, &authority, "there.example".parse().unwrap()).unwrap();
    let (_, far) = meet(&client, &server);
    let revoked = matches!(far, Err(Error::PeerCertificate(Distrust::Revoked)));
    assert!(revoked, "{far:?}");
}
