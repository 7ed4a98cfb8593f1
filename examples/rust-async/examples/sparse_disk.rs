//! A sparse disk in memory whose requests are carried out by one thread: zeroes take no memory, and
//! reads are sent without a copy.

use std::collections::HashMap;
use std::sync::mpsc::{channel, Receiver, Sender};
use std::sync::{Arc, Mutex};
use std::thread::{spawn, JoinHandle};

use nbdkit_async::{
    errno, parse_size, Error, Export, Extent, ExtentsRequest, FlushRequest, Plugin, ReadRequest,
    Result, TrimRequest, WriteRequest, ZeroRequest,
};

const CHUNK: u64 = 64 << 10;

enum Job {
    Read(ReadRequest),
    Write(WriteRequest),
    Flush(FlushRequest),
    Trim(TrimRequest),
    Zero(ZeroRequest),
    Extents(ExtentsRequest),
}

/// Where clients put jobs. None: the thread has been stopped.
type Queue = Arc<Mutex<Option<Sender<Job>>>>;

#[derive(Default)]
struct SparseDisk {
    size: u64,
    queue: Queue,
    thread: Option<JoinHandle<()>>,
}

struct OpenDisk {
    size: u64,
    queue: Queue,
}

impl Plugin for SparseDisk {
    type Export = OpenDisk;
    const CONFIG_HELP: &'static str = "size=<SIZE>             Size of the disk.\0";

    fn config(&mut self, key: &str, value: &str) -> Result<()> {
        if key != "size" {
            return Err(Error::new(errno::EINVAL, format!("unknown parameter \"{key}\"")));
        }
        self.size = parse_size(value)?;
        Ok(())
    }

    fn config_complete(&mut self) -> Result<()> {
        if self.size == 0 {
            let message = "the size of the disk is missing: add size=<SIZE>";
            return Err(Error::new(errno::EINVAL, message));
        }
        Ok(())
    }

    fn after_fork(&mut self) -> Result<()> {
        let (sender, receiver) = channel();
        *self.queue.lock().unwrap() = Some(sender);
        self.thread = Some(spawn(move || work(receiver)));
        Ok(())
    }

    fn cleanup(&mut self) {
        *self.queue.lock().unwrap() = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join(); // a panic has already been logged
        }
    }

    fn open(&self, _name: &str, _readonly: bool) -> Result<OpenDisk> {
        Ok(OpenDisk { size: self.size, queue: self.queue.clone() })
    }
}

impl OpenDisk {
    /// If the thread has stopped, the job is dropped, and its client gets EIO.
    fn put(&self, job: Job) {
        // Unlock before a job is dropped, because that answers it.
        let queue = self.queue.lock().unwrap().clone();
        if let Some(queue) = queue {
            let _ = queue.send(job);
        }
    }
}

impl Export for OpenDisk {
    const CAN_WRITE: bool = true;
    const CAN_FLUSH: bool = true;
    const CAN_TRIM: bool = true;
    const CAN_ZERO: bool = true;
    const CAN_EXTENTS: bool = true;
    const CAN_MULTI_CONN: bool = true;

    fn size(&self) -> Result<u64> {
        Ok(self.size)
    }
    fn read(&self, request: ReadRequest) {
        self.put(Job::Read(request));
    }
    fn write(&self, request: WriteRequest) {
        self.put(Job::Write(request));
    }
    fn flush(&self, request: FlushRequest) {
        self.put(Job::Flush(request));
    }
    fn trim(&self, request: TrimRequest) {
        self.put(Job::Trim(request));
    }
    fn zero(&self, request: ZeroRequest) {
        self.put(Job::Zero(request));
    }
    fn extents(&self, request: ExtentsRequest) {
        self.put(Job::Extents(request));
    }
}

fn work(jobs: Receiver<Job>) {
    let mut chunks = Chunks::default();
    for job in jobs {
        match job {
            Job::Read(request) => chunks.read(request),
            Job::Write(request) => {
                chunks.write(request.offset(), request.data());
                request.done()
            }
            Job::Flush(request) => request.done(), // no storage is more durable
            Job::Trim(request) => {
                chunks.clear(request.offset(), request.count());
                request.done()
            }
            Job::Zero(request) => {
                chunks.clear(request.offset(), request.count());
                request.done()
            }
            Job::Extents(request) => chunks.extents(request),
        };
    }
}

/// The written chunks. A chunk that is lent to a reply is copied before it is changed.
#[derive(Default)]
struct Chunks(HashMap<u64, Arc<Vec<u8>>>);

/// Splits a range by chunks: the chunk, the offset in it, and the number of bytes.
fn pieces(mut offset: u64, count: usize) -> impl Iterator<Item = (u64, usize, usize)> {
    let end = offset + count as u64;
    std::iter::from_fn(move || {
        if offset == end {
            return None;
        }
        let from = offset % CHUNK;
        let bytes = (CHUNK - from).min(end - offset);
        let piece = (offset / CHUNK, from as usize, bytes as usize);
        offset += bytes;
        Some(piece)
    })
}

impl Chunks {
    fn read(&self, mut request: ReadRequest) -> bool {
        let (offset, count) = (request.offset(), request.count());
        let (chunk, from) = (offset / CHUNK, (offset % CHUNK) as usize);
        if let (Some(data), true) = (self.0.get(&chunk), from + count <= CHUNK as usize) {
            return request.done_lent(Lent(data.clone()), from);
        }
        let mut rest = request.buffer();
        for (chunk, from, bytes) in pieces(offset, count) {
            let (part, after) = rest.split_at_mut(bytes);
            match self.0.get(&chunk) {
                Some(data) => part.copy_from_slice(&data[from..from + bytes]),
                None => part.fill(0),
            }
            rest = after;
        }
        request.done()
    }

    fn write(&mut self, offset: u64, mut data: &[u8]) {
        for (chunk, from, bytes) in pieces(offset, data.len()) {
            let chunk = self.0.entry(chunk).or_insert_with(|| Arc::new(vec![0; CHUNK as usize]));
            Arc::make_mut(chunk)[from..from + bytes].copy_from_slice(&data[..bytes]);
            data = &data[bytes..];
        }
    }

    fn clear(&mut self, offset: u64, count: usize) {
        for (chunk, from, bytes) in pieces(offset, count) {
            if bytes == CHUNK as usize {
                self.0.remove(&chunk);
            } else if let Some(data) = self.0.get_mut(&chunk) {
                Arc::make_mut(data)[from..from + bytes].fill(0);
            }
        }
    }

    fn extents(&self, mut request: ExtentsRequest) -> bool {
        for (chunk, _, bytes) in pieces(request.offset(), request.count()) {
            let kind = if self.0.contains_key(&chunk) { Extent::Data } else { Extent::Hole };
            request.add(bytes as u64, kind);
        }
        request.done()
    }
}

struct Lent(Arc<Vec<u8>>);

impl AsRef<[u8]> for Lent {
    fn as_ref(&self) -> &[u8] {
        &self.0
    }
}

nbdkit_async::plugin!(SparseDisk, "sparse-disk");
