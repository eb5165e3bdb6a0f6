//! Goal: a client that speaks the protocol finds its writes, keeps what it flushed over a cut, and is not answered by a
//! disk without power.
//!
//! Method: a small client of our own over a socket pair; files of 1 MiB.

use super::*;
use std::time::Duration;

const SIZE: u64 = 1 << 20;

struct Client(UnixStream);

impl Client {
    /// Shakes hands by NBD_OPT_GO.
    fn connect(rack: &Rack<FileMedium>, number: usize) -> Self {
        let (ours, theirs) = UnixStream::pair().unwrap();
        ours.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        let served = rack.clone();
        thread::spawn(move || served.talk(number, &theirs));
        let mut client = Self(ours);
        assert_eq!(&client.read(18)[..16], b"NBDMAGICIHAVEOPT");
        client.write(&3_u32.to_be_bytes());
        // An option that it does not know, then the export without a name.
        for (option, data) in [(8_u32, &[][..]), (7, &[0; 6])] {
            client.write(b"IHAVEOPT");
            client.write(&option.to_be_bytes());
            client.write(&u32::try_from(data.len()).unwrap().to_be_bytes());
            client.write(data);
        }
        assert_eq!(client.option_reply(), (8, 0x8000_0001, vec![]));
        let (_, kind, about) = client.option_reply();
        assert_eq!((kind, &about[2..10]), (3, &SIZE.to_be_bytes()[..]));
        assert_eq!(client.option_reply().1, 3);
        assert_eq!(client.option_reply(), (7, 1, vec![]));
        client
    }

    fn read(&mut self, len: usize) -> Vec<u8> {
        let mut bytes = vec![0; len];
        self.0.read_exact(&mut bytes).unwrap();
        bytes
    }

    fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).unwrap();
    }

    fn option_reply(&mut self) -> (u32, u32, Vec<u8>) {
        let head = self.read(20);
        let word = |at: usize| u32::from_be_bytes(head[at..at + 4].try_into().unwrap());
        assert_eq!(head[..8], 0x0003_e889_0455_65a9_u64.to_be_bytes());
        let data = self.read(usize::try_from(word(16)).unwrap());
        (word(8), word(12), data)
    }

    fn send(&mut self, flags: u16, kind: u16, at: u64, len: u32, data: &[u8]) {
        self.write(&0x2560_9513_u32.to_be_bytes());
        self.write(&flags.to_be_bytes());
        self.write(&kind.to_be_bytes());
        self.write(b"handle!!");
        self.write(&at.to_be_bytes());
        self.write(&len.to_be_bytes());
        self.write(data);
    }

    /// Sends a request and gives the answer's error and data.
    fn ask(&mut self, flags: u16, kind: u16, at: u64, len: u32, data: &[u8]) -> (u32, Vec<u8>) {
        self.send(flags, kind, at, len, data);
        let head = self.read(16);
        assert_eq!(head[..4], 0x6744_6698_u32.to_be_bytes());
        assert_eq!(&head[8..], b"handle!!");
        let error = u32::from_be_bytes(head[4..8].try_into().unwrap());
        let len = if kind == 0 && error == 0 { usize::try_from(len).unwrap() } else { 0 };
        (error, self.read(len))
    }
}

fn rack(folder: &Path) -> Rack<FileMedium> {
    let disks = ["a", "b"].map(|name| {
        let (medium, size) = open(&folder.join(name), Some(SIZE)).unwrap();
        Disk::new(medium, size, 1 << 30)
    });
    Rack::new(Vec::from(disks), 512)
}

const FUA: u16 = 1;
const READ: u16 = 0;
const WRITE: u16 = 1;
const DISCONNECT: u16 = 2;
const FLUSH: u16 = 3;
const TRIM: u16 = 4;
const ZEROES: u16 = 6;

#[test]
fn a_client_finds_what_it_wrote_and_keeps_what_it_flushed() {
    let folder = tempfile::tempdir().unwrap();
    let rack = rack(folder.path());
    let mut client = Client::connect(&rack, 0);
    assert_eq!(client.ask(0, WRITE, 4096, 1024, &[7; 1024]).0, 0);
    assert_eq!(client.ask(0, FLUSH, 0, 0, &[]).0, 0);
    // 4096: flushed data; 8192: FUA; 12288: neither; then trimmed and zeroed without a flush.
    assert_eq!(client.ask(FUA, WRITE, 8192, 512, &[8; 512]).0, 0);
    assert_eq!(client.ask(0, WRITE, 12288, 512, &[9; 512]).0, 0);
    assert_eq!(client.ask(0, TRIM, 4096, 512, &[]).0, 0);
    assert_eq!(client.ask(0, ZEROES, 4608, 512, &[]).0, 0);
    assert_eq!(client.ask(0, READ, 4096, 1024, &[]), (0, vec![0; 1024]));
    assert_eq!(client.ask(0, READ, 12288, 512, &[]), (0, vec![9; 512]));
    assert_eq!(rack.status(), "0 cuts; not flushed: 3 0");
    // The first seed that loses everything.
    let seed = (0..1000).find(|seed| loses_everything(*seed)).unwrap();
    let said = rack.cut(seed).unwrap();
    assert!(said.contains("disk 0: 3 not flushed: 0 kept, 3 lost, 0 torn"), "{said}");
    // The old connection is silent.
    client.send(0, READ, 0, 512, &[]);
    client.0.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
    assert!(client.0.read(&mut [0; 16]).is_err());
    let mut next = Client::connect(&rack, 0);
    assert_eq!(next.ask(0, READ, 4096, 1024, &[]), (0, vec![7; 1024]));
    assert_eq!(next.ask(0, READ, 8192, 512, &[]), (0, vec![8; 512]));
    assert_eq!(next.ask(0, READ, 12288, 512, &[]), (0, vec![0; 512]));
    next.send(0, DISCONNECT, 0, 0, &[]);
    assert_eq!(next.0.read(&mut [0; 1]).unwrap(), 0);
}

/// Whether a cut with this seed loses everything on the first disk.
fn loses_everything(seed: u64) -> bool {
    let folder = tempfile::tempdir().unwrap();
    let rack = rack(folder.path());
    let mut client = Client::connect(&rack, 0);
    client.ask(FUA, WRITE, 0, 512, &[1; 512]);
    for at in [512, 4096, 8192] {
        client.ask(0, WRITE, at, 512, &[1; 512]);
    }
    rack.cut(seed).unwrap().contains("0 kept, 3 lost")
}

#[test]
fn what_cannot_be_done_is_an_error_and_the_conversation_goes_on() {
    let folder = tempfile::tempdir().unwrap();
    let rack = rack(folder.path());
    let mut client = Client::connect(&rack, 1);
    assert_eq!(client.ask(0, WRITE, SIZE - 512, 1024, &[7; 1024]).0, 22);
    assert_eq!(client.ask(0, 99, 0, 0, &[]).0, 22);
    assert_eq!(client.ask(0, READ, SIZE - 512, 512, &[]), (0, vec![0; 512]));
}

#[test]
fn orders_are_obeyed_over_the_control_socket() {
    let folder = tempfile::tempdir().unwrap();
    let rack = rack(folder.path());
    let control = folder.path().join("control");
    let obeying = {
        let (rack, control) = (rack.clone(), control.clone());
        thread::spawn(move || rack.obey(&control))
    };
    let order = |line: &str| {
        let deadline = std::time::Instant::now() + Duration::from_secs(60);
        let mut stream = loop {
            match UnixStream::connect(&control) {
                Ok(stream) => break stream,
                Err(_) if std::time::Instant::now() < deadline => thread::yield_now(),
                Err(error) => panic!("{error}"),
            }
        };
        stream.write_all(line.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    };
    assert_eq!(order("status\n"), "0 cuts; not flushed: 0 0\n");
    assert!(order("cut 5\n").starts_with("cut with seed 5; disk 0: 0 not flushed"));
    assert_eq!(order("flush\n"), "flushed\n");
    assert!(order("cut x\n").starts_with("error: "));
    assert_eq!(order("quit\n"), "");
    obeying.join().unwrap().unwrap();
}
