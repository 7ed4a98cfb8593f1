//! torture.cpp in Rust: answers from 4 threads in random order, in every way a read can be answered,
//! now and then late, and drops requests or panics where a client expects an error.
//!
//! size=BYTES, seed=N, panic-in=CALLBACK, or CALLBACK-twice: with a value that panics when dropped.
//! At the end prints what it has done as a "torture: …" line.

use std::panic::{catch_unwind, panic_any, AssertUnwindSafe};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex};
use std::thread::{sleep, spawn, JoinHandle};
use std::time::Duration;

use nbdkit_async::{
    errno, parse_size, Batch, Error, Export, FlushRequest, Plugin, ReadRequest, Result, WriteRequest,
};

const THREADS: u64 = 4;
const REGION: u64 = 64 << 10;
/// So few that threads run dry, so many that the order is random.
const SHUFFLED: usize = 64;

enum Request {
    Read(ReadRequest),
    Write(WriteRequest),
    Flush(FlushRequest),
}

#[derive(Default)]
struct Shared {
    size: u64,
    panics_in: String,
    disk: Mutex<Vec<u8>>,
    waiting: Mutex<Vec<Request>>,
    changed: Condvar,
    is_ending: AtomicBool,
    replies: AtomicU64,
    refused: AtomicU64,
    dropped: AtomicU64,
}

#[derive(Default)]
struct Torture {
    shared: Arc<Shared>,
    size: Option<u64>,
    seed: u64,
    panics_in: String,
    threads: Vec<JoinHandle<()>>,
}

struct Open(Arc<Shared>);

/// What a panic is given that must not be dropped.
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        panic!("the value of a panic was dropped");
    }
}

impl Shared {
    fn maybe_panic(&self, callback: &str) {
        if self.panics_in == callback {
            panic!("100% wrong in {callback}: %s%n");
        }
        if self.panics_in.strip_suffix("-twice") == Some(callback) {
            panic_any(Bomb);
        }
    }

    fn put(&self, request: Request) {
        self.waiting.lock().unwrap().push(request);
        self.changed.notify_one();
    }

    fn fails(&self, offset: u64) -> bool {
        offset >= self.size / 2 && offset / REGION % 2 == 1
    }

    fn note(&self, accepted: bool) {
        self.replies.fetch_add(1, Relaxed);
        self.refused.fetch_add(u64::from(!accepted), Relaxed);
    }

    fn read(&self, mut request: ReadRequest, random: &mut Random) -> bool {
        if self.fails(request.offset()) {
            self.dropped.fetch_add(1, Relaxed);
            if random.one_in(2) {
                panic!("with a request");
            }
            return true; // dropped
        }
        let from = request.offset() as usize;
        let mut own = self.disk.lock().unwrap()[from..from + request.count()].to_vec();
        match random.next() % 3 {
            0 => {
                request.buffer().copy_from_slice(&own);
                request.done()
            }
            1 => request.done_lent(own, 0),
            _ => {
                let accepted = request.done_from(&own);
                own.fill(0xee);
                accepted
            }
        }
    }

    fn write(&self, request: WriteRequest) -> bool {
        if self.fails(request.offset()) {
            return request.fail(errno::ENOSPC);
        }
        let from = request.offset() as usize;
        self.disk.lock().unwrap()[from..from + request.count()].copy_from_slice(request.data());
        request.done()
    }

    fn work(&self, mut random: Random) {
        let mut waiting = self.waiting.lock().unwrap();
        loop {
            if waiting.len() < SHUFFLED && !self.is_ending.load(Relaxed) {
                waiting = self.changed.wait_timeout(waiting, Duration::from_millis(1)).unwrap().0;
            }
            if waiting.is_empty() {
                if self.is_ending.load(Relaxed) {
                    return;
                }
                continue;
            }
            let index = random.next() as usize % waiting.len();
            let request = waiting.swap_remove(index);
            drop(waiting);
            if random.one_in(64) {
                sleep(Duration::from_millis(random.next() % 20));
            }
            let _batch = random.one_in(4).then(Batch::new);
            let _ = catch_unwind(AssertUnwindSafe(|| {
                self.note(match request {
                    Request::Read(request) => self.read(request, &mut random),
                    Request::Write(request) => self.write(request),
                    Request::Flush(request) => request.done(),
                });
            }));
            waiting = self.waiting.lock().unwrap();
        }
    }
}

/// xorshift64
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 >> 11
    }

    fn one_in(&mut self, times: u64) -> bool {
        self.next() % times == 0
    }
}

impl Plugin for Torture {
    type Export = Open;

    fn config(&mut self, key: &str, value: &str) -> Result<()> {
        match key {
            "size" => self.size = Some(parse_size(value)?),
            "seed" => self.seed = value.parse().map_err(|_| Error::new(errno::EINVAL, "seed"))?,
            "panic-in" => self.panics_in = value.to_string(),
            _ => return Err(Error::new(errno::EINVAL, format!("unknown parameter \"{key}\""))),
        }
        assert_ne!(self.panics_in, "config", "100% wrong in config: %s%n");
        Ok(())
    }

    fn config_complete(&mut self) -> Result<()> {
        let size = self.size.unwrap_or(8 << 20);
        self.shared = Arc::new(Shared {
            size,
            panics_in: self.panics_in.clone(),
            disk: Mutex::new(vec![0; size as usize]),
            ..Shared::default()
        });
        self.shared.maybe_panic("config_complete");
        Ok(())
    }

    fn after_fork(&mut self) -> Result<()> {
        self.shared.maybe_panic("after_fork");
        std::panic::set_hook(Box::new(|_| {})); // those of a thread would fill the log
        for number in 1..=THREADS {
            let (shared, random) = (self.shared.clone(), Random(self.seed * 100 + number));
            self.threads.push(spawn(move || shared.work(random)));
        }
        Ok(())
    }

    fn cleanup(&mut self) {
        self.shared.is_ending.store(true, Relaxed);
        self.shared.changed.notify_all();
        for thread in self.threads.drain(..) {
            thread.join().unwrap();
        }
        let Shared { replies, refused, dropped, .. } = &*self.shared;
        let count = |counter: &AtomicU64| counter.load(Relaxed);
        eprintln!(
            "torture: {} replies, {} refused, {} repeated, 0 repeats accepted",
            count(replies), count(refused), count(dropped),
        );
        self.shared.maybe_panic("cleanup");
    }

    fn open(&self, _name: &str, _readonly: bool) -> Result<Open> {
        self.shared.maybe_panic("open");
        Ok(Open(self.shared.clone()))
    }
}

impl Export for Open {
    const CAN_WRITE: bool = true;
    const CAN_FLUSH: bool = true;
    const CAN_MULTI_CONN: bool = true;

    fn size(&self) -> Result<u64> {
        self.0.maybe_panic("size");
        Ok(self.0.size)
    }
    fn read(&self, request: ReadRequest) {
        self.0.maybe_panic("read");
        self.0.put(Request::Read(request));
    }
    fn write(&self, request: WriteRequest) {
        self.0.put(Request::Write(request));
        self.0.maybe_panic("write"); // which the request outlives
    }
    fn flush(&self, request: FlushRequest) {
        self.0.put(Request::Flush(request));
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        self.0.maybe_panic("close");
    }
}

nbdkit_async::plugin!(Torture, "rust-torture");
