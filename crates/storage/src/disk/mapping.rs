//! A read-only view of a file's bytes that survives the file being cut under it.
//!
//! A memory mapping of a file that somebody truncates raises `SIGBUS` on the next read beyond the
//! new end, which by default kills the process. Reads here are therefore bracketed: the reading
//! thread notes the mapping's address range, and a `SIGBUS` handler that finds the fault inside
//! that range puts a page of zeros there and lets the read go on; the reader then sees that it was
//! interrupted and answers `None`. A `SIGBUS` anywhere else goes to whoever handled it before, and
//! this handler stays in place: another library may guard mappings of its own in the same way.

// The one module with `unsafe`: mapping, guarded reading of the mapping, and the handler.
#![allow(unsafe_code)]

use std::cell::Cell;
use std::fs::File;
use std::io;
use std::mem::MaybeUninit;
use std::ptr;
use std::sync::OnceLock;
use std::sync::atomic::{Ordering, compiler_fence};

/// A read-only view of the first bytes of a file.
#[derive(Debug)]
pub struct Mapping(View);

#[derive(Debug)]
enum View {
    Mapped(memmap2::Mmap),
    Bytes(Vec<u8>),
}

impl Mapping {
    /// Maps the first `len` bytes of a file.
    ///
    /// # Errors
    /// The operating system's error.
    pub fn of_file(file: &File, len: usize) -> io::Result<Self> {
        if len == 0 {
            return Ok(Self(View::Bytes(Vec::new())));
        }
        guard::install()?;
        // SAFETY: the mapping is read-only and never handed out as a slice: `read` copies bytes
        // out of it under the guard, so neither a concurrent change (bytes are plain data, checked
        // by their reader) nor a truncation (guard) can break a Rust invariant.
        let map = unsafe { memmap2::MmapOptions::new().len(len).map(file)? };
        Ok(Self(View::Mapped(map)))
    }

    /// A view of bytes in memory, for disks that cannot map.
    pub fn of_bytes(bytes: Vec<u8>) -> Self {
        Self(View::Bytes(bytes))
    }

    /// Number of bytes in view.
    pub fn len(&self) -> usize {
        match &self.0 {
            View::Mapped(map) => map.len(),
            View::Bytes(bytes) => bytes.len(),
        }
    }

    /// Whether nothing is in view.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Copies `N` bytes from position `at`; `None` past the end, or when the file was cut under
    /// the mapping.
    pub fn read<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        let end = at.checked_add(N)?;
        if end > self.len() {
            return None;
        }
        match &self.0 {
            View::Mapped(map) => guard::read(map, at),
            View::Bytes(bytes) => bytes[at..end].try_into().ok(),
        }
    }
}

mod guard {
    use super::{Cell, MaybeUninit, OnceLock, Ordering, compiler_fence, io, ptr};

    /// What the current thread is reading: address range, and whether the handler had to step in.
    #[derive(Clone, Copy)]
    struct Reading {
        start: usize,
        end: usize,
        interrupted: bool,
    }

    const IDLE: Reading = Reading {
        start: 0,
        end: 0,
        interrupted: false,
    };

    thread_local! {
        // Constant initialiser and no destructor: reading it in a signal handler is a plain load.
        static READING: Cell<Reading> = const { Cell::new(IDLE) };
    }

    static PREVIOUS: OnceLock<libc::sigaction> = OnceLock::new();
    static INSTALLED: OnceLock<Result<(), i32>> = OnceLock::new();

    /// Installs the handler once per process.
    pub(super) fn install() -> io::Result<()> {
        INSTALLED
            .get_or_init(|| {
                let mut previous = MaybeUninit::<libc::sigaction>::zeroed();
                // SAFETY: both structs are valid for the call; the handler only does what is
                // async-signal-safe (thread-local load and store, mmap, sigaction).
                let result = unsafe {
                    libc::sigaction(libc::SIGBUS, ptr::null(), previous.as_mut_ptr());
                    let _ = PREVIOUS.set(previous.assume_init());
                    let mut action: libc::sigaction = MaybeUninit::zeroed().assume_init();
                    action.sa_sigaction = on_bus_error as *const () as usize;
                    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
                    libc::sigaction(libc::SIGBUS, &action, ptr::null_mut())
                };
                if result == 0 {
                    Ok(())
                } else {
                    Err(last_errno())
                }
            })
            .map_err(io::Error::from_raw_os_error)
    }

    fn last_errno() -> i32 {
        io::Error::last_os_error()
            .raw_os_error()
            .unwrap_or(libc::EINVAL)
    }

    pub(super) fn read<const N: usize>(map: &[u8], at: usize) -> Option<[u8; N]> {
        let start = map.as_ptr() as usize;
        READING.set(Reading {
            start,
            end: start + map.len(),
            interrupted: false,
        });
        compiler_fence(Ordering::SeqCst);
        // SAFETY: the caller checked `at + N <= map.len()`; the address is mapped for as long as
        // `map` is borrowed, and a fault on it is answered by the handler.
        let bytes = unsafe { ptr::read_volatile(map.as_ptr().add(at).cast::<[u8; N]>()) };
        compiler_fence(Ordering::SeqCst);
        let interrupted = READING.replace(IDLE).interrupted;
        (!interrupted).then_some(bytes)
    }

    extern "C" fn on_bus_error(
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
    ) {
        // SAFETY: the kernel passes a valid siginfo for SA_SIGINFO handlers; a fault has an address,
        // a signal that a process sent (code at most 0) has none.
        let (faulted, address) = unsafe {
            let faulted = (*info).si_code > 0;
            let address = if faulted {
                (*info).si_addr() as usize
            } else {
                0
            };
            (faulted, address)
        };
        let reading = READING.get();
        if faulted && address >= reading.start && address < reading.end && cover(address) {
            READING.set(Reading {
                interrupted: true,
                ..reading
            });
            return;
        }
        pass_on(signal, info, context, faulted);
    }

    /// Does with a signal that is not ours what would be done without us.
    fn pass_on(
        signal: libc::c_int,
        info: *mut libc::siginfo_t,
        context: *mut libc::c_void,
        faulted: bool,
    ) {
        let handler = PREVIOUS
            .get()
            .map_or(libc::SIG_DFL, |previous| previous.sa_sigaction);
        let takes_info = PREVIOUS
            .get()
            .is_some_and(|previous| previous.sa_flags & libc::SA_SIGINFO != 0);
        match handler {
            libc::SIG_IGN if !faulted => {}
            // The kernel does not let a fault be ignored either.
            libc::SIG_DFL | libc::SIG_IGN => {
                // SAFETY: a zeroed sigaction is SIG_DFL with an empty mask. A fault happens again
                // when this returns; a sent signal is sent again, and delivered when this returns.
                unsafe {
                    let default: libc::sigaction = MaybeUninit::zeroed().assume_init();
                    libc::sigaction(signal, &default, ptr::null_mut());
                    if !faulted {
                        libc::raise(signal);
                    }
                }
            }
            handler if takes_info => {
                // SAFETY: whoever installed it with SA_SIGINFO gave a function of this type.
                let handler: extern "C" fn(libc::c_int, *mut libc::siginfo_t, *mut libc::c_void) =
                    unsafe { std::mem::transmute(handler) };
                handler(signal, info, context);
            }
            handler => {
                // SAFETY: whoever installed it without SA_SIGINFO gave a function of this type.
                let handler: extern "C" fn(libc::c_int) = unsafe { std::mem::transmute(handler) };
                handler(signal);
            }
        }
    }

    /// Puts one page of zeros over the faulting page.
    fn cover(address: usize) -> bool {
        // SAFETY: sysconf has no preconditions. The page lies inside a mapping that the
        // interrupted read borrows, so replacing it affects nobody else's memory; the mapping's
        // owner unmaps the whole range, this page included.
        unsafe {
            let page = libc::sysconf(libc::_SC_PAGESIZE) as usize;
            let start = (address & !(page - 1)) as *mut libc::c_void;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
            libc::mmap(start, page, libc::PROT_READ, flags, -1, 0) != libc::MAP_FAILED
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_cut_under_its_mapping_answers_none() {
        let file = tempfile::tempfile().unwrap();
        file.set_len(3 * 4096).unwrap();
        let mapping = Mapping::of_file(&file, 3 * 4096).unwrap();
        assert_eq!(mapping.read::<8>(2 * 4096), Some([0; 8]));
        file.set_len(4096).unwrap();
        assert_eq!(mapping.read::<8>(2 * 4096), None, "cut");
        assert_eq!(mapping.read::<8>(0), Some([0; 8]), "still there");
        assert_eq!(mapping.read::<8>(3 * 4096 - 7), None, "past the end");
    }
}
