//! Gives back the space of segments that were replaced, group by group.
//!
//! A file that lost its names is freed with its last handle, all at once, and whoever closes that waits: on
//! file systems that tell the disk what is free (`discard`) tens of milliseconds for a segment, and the
//! syncs of all other logs wait as well. So a run that gives way to others cuts files down a little at a
//! time; at full speed a thread frees them while the next group is written.
//!
//! Invariants: only what has no name and nobody else in this process holds is cut. By then the new segment
//! counts on the disk (see [`super::swap`]), so whatever a crash leaves of the old ones goes unread. At most one
//! group waits to be freed.

use std::sync::Arc;
use std::thread::JoinHandle;

use super::pass::GoOn;
use crate::error::Result;
use crate::segment::Segment;

/// What freeing a part of a file counts for, in bytes read or written: a fraction of what is freed.
const CUT_COST: u64 = 512 << 10;

/// See the module's documentation.
#[derive(Debug, Default)]
pub(crate) struct Discard {
    /// Frees the group before.
    thread: Option<JoinHandle<()>>,
}

impl Discard {
    /// Frees segments that are no input any more; those that are still in the log stay.
    ///
    /// # Errors
    /// When the run is to end. They are freed all the same, by the thread.
    pub(crate) fn free(&mut self, mut old: Vec<Arc<Segment>>, go_on: GoOn<'_>) -> Result<()> {
        self.wait();
        let cut = old
            .iter_mut()
            .try_for_each(|segment| cut_down(segment, go_on));
        // Without a thread they are freed here.
        let thread = std::thread::Builder::new().name("dlog-discard".to_owned());
        self.thread = thread.spawn(move || drop(old)).ok();
        cut
    }

    fn wait(&mut self) {
        if let Some(thread) = self.thread.take() {
            // If it panicked, the handles went all the same.
            let _ = thread.join();
        }
    }
}

impl Drop for Discard {
    fn drop(&mut self) {
        self.wait();
    }
}

/// Cuts a segment's file down in steps, unless somebody reads it or the run goes at full speed.
fn cut_down(segment: &mut Arc<Segment>, go_on: GoOn<'_>) -> Result<()> {
    let Some(segment) = Arc::get_mut(segment) else {
        return Ok(());
    };
    let Some(file) = segment.replaced_file() else {
        return Ok(());
    };
    while !go_on(CUT_COST)? {
        match file.free_tail() {
            Ok(Some(left)) if left > 0 => {}
            _ => break,
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::{Cell, RefCell};
    use std::io::IoSlice;
    use std::path::Path;

    use super::*;
    use crate::config::Format;
    use crate::disk::{Disk, DiskFile, OpenMode, SimDisk};

    /// Of a simulated disk.
    const PART: u64 = 512;
    const SIZE: u64 = 2 * PART + 5;

    /// A segment that was replaced, and a handle that shows its length.
    fn replaced() -> (Arc<Segment>, Arc<dyn DiskFile>) {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        let segment = Segment::create(&disk, Path::new("/d"), 0, Format::V2, 4096).unwrap();
        let bytes = vec![7; SIZE as usize];
        segment.write_at_end(&mut [IoSlice::new(&bytes)]).unwrap();
        segment.publish(SIZE);
        segment.give_up_names();
        let file = disk.open(segment.path(), OpenMode::Read).unwrap();
        disk.remove_file(segment.path()).unwrap();
        (Arc::new(segment), file)
    }

    /// What is asked while a segment is freed, and the length of its file then and at last.
    fn freed(segment: Arc<Segment>, file: &dyn DiskFile, is_fast: bool) -> Vec<(u64, u64)> {
        let seen = RefCell::new(Vec::new());
        let go_on = |bytes| {
            seen.borrow_mut().push((bytes, file.len().unwrap()));
            Ok(is_fast)
        };
        Discard::default().free(vec![segment], &go_on).unwrap();
        let mut seen = seen.into_inner();
        seen.push((0, file.len().unwrap()));
        seen
    }

    #[test]
    fn a_file_goes_a_little_at_a_time() {
        let (segment, file) = replaced();
        let steps = [SIZE, 2 * PART, PART].map(|len| (CUT_COST, len));
        let steps = [&steps[..], &[(0, 0)]].concat();
        assert_eq!(freed(segment, &*file, false), steps);
    }

    #[test]
    fn at_full_speed_it_goes_at_once() {
        let (segment, file) = replaced();
        let steps = [(CUT_COST, SIZE), (0, SIZE)];
        assert_eq!(freed(segment, &*file, true), steps);
    }

    #[test]
    fn what_somebody_holds_is_not_cut() {
        let (segment, file) = replaced();
        let reader = segment.clone();
        assert_eq!(freed(segment, &*file, false), [(0, SIZE)]);
        // Only the file, as an answer that is on its way to a client.
        let reads = reader.file().unwrap().clone();
        assert_eq!(freed(reader, &*file, false), [(0, SIZE)]);
        drop(reads);
    }

    #[test]
    fn a_segment_that_has_its_names_is_not_cut() {
        let disk: Arc<dyn Disk> = Arc::new(SimDisk::new());
        let segment = Segment::create(&disk, Path::new("/d"), 0, Format::V2, 4096).unwrap();
        segment
            .write_at_end(&mut [IoSlice::new(b"record")])
            .unwrap();
        segment.publish(6);
        let file = disk.open(segment.path(), OpenMode::Read).unwrap();
        assert_eq!(freed(Arc::new(segment), &*file, false), [(0, 6)]);
    }

    #[test]
    fn a_run_that_is_to_end_stops_cutting() {
        let (segment, file) = replaced();
        let asked = Cell::new(0);
        let go_on = |_| {
            asked.set(asked.get() + 1);
            match asked.get() {
                1 => Ok(false),
                _ => Err(crate::StorageError::Closed { dir: "/d".into() }),
            }
        };
        let error = Discard::default().free(vec![segment], &go_on).unwrap_err();
        assert!(matches!(error, crate::StorageError::Closed { .. }));
        assert_eq!(file.len().unwrap(), 2 * PART);
    }
}
