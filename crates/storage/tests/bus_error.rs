//! A `SIGBUS` that is not about one of our mappings goes to whoever handled it before, every time,
//! and ours are guarded all the while. A process of its own: handlers are process-wide.

#![allow(unsafe_code, clippy::unwrap_used)]

use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering};

use dlog_storage::disk::Mapping;

static FOREIGN: AtomicUsize = AtomicUsize::new(0);

extern "C" fn foreign(_: libc::c_int, info: *mut libc::siginfo_t, _: *mut libc::c_void) {
    FOREIGN.fetch_add(1, Ordering::SeqCst);
    // SAFETY: as another library would: the page that faulted is replaced, and the read goes on.
    unsafe {
        if (*info).si_code > 0 {
            let page = (*info).si_addr() as usize & !4095;
            libc::mmap(
                page as *mut libc::c_void,
                4096,
                libc::PROT_READ,
                libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
                -1,
                0,
            );
        }
    }
}

fn two_pages() -> File {
    let file = tempfile::tempfile().unwrap();
    file.set_len(2 * 4096).unwrap();
    file
}

fn ours_is_guarded() {
    let file = two_pages();
    let mapping = Mapping::of_file(&file, 2 * 4096).unwrap();
    assert_eq!(mapping.read::<8>(4096), Some([0; 8]));
    file.set_len(0).unwrap();
    assert_eq!(mapping.read::<8>(4096), None);
    assert_eq!(mapping.read::<8>(0), None);
}

fn foreign_fault() {
    let file = two_pages();
    // SAFETY: the mapping is private to this function, read only through a volatile pointer.
    unsafe {
        let map = memmap2::MmapOptions::new()
            .len(2 * 4096)
            .map(&file)
            .unwrap();
        file.set_len(0).unwrap();
        assert_eq!(std::ptr::read_volatile(map.as_ptr().add(4096)), 0);
    }
}

#[test]
fn foreign_signals_are_passed_on_and_ours_stay_guarded() {
    // SAFETY: a valid handler of the type that SA_SIGINFO asks for.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = foreign as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO;
        assert_eq!(
            libc::sigaction(libc::SIGBUS, &action, std::ptr::null_mut()),
            0
        );
    }
    ours_is_guarded();
    for i in 0..3 {
        assert_eq!(FOREIGN.load(Ordering::SeqCst), 2 * i);
        foreign_fault();
        // One that a process sends has no address.
        // SAFETY: raising a signal that is handled.
        unsafe { libc::raise(libc::SIGBUS) };
        assert_eq!(FOREIGN.load(Ordering::SeqCst), 2 * i + 2);
        ours_is_guarded();
    }
    // Every thread for itself.
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..50).for_each(|_| ours_is_guarded()));
        }
    });
    assert_eq!(FOREIGN.load(Ordering::SeqCst), 6);
}
