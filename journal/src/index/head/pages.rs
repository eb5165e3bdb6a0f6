//! Memory for what is read all over: pages of one size, in huge pages where the system has them.
//!
//! Owns the memory of a volume's head map and which pages of it are free. A head map of some hundred megabytes is read at
//! random places; in pages of 4 KiB a third of that is spent on finding them. So they come in slabs of their own, which
//! ask for huge pages (`MADV_HUGEPAGE`; what it cannot have it does without). The first slab is small, since most volumes
//! are. Free pages are used again; all are given back when none is used any more.

use memmap2::{Advice, MmapMut};
use std::ops::{Deref, DerefMut};

/// Bytes of a page.
pub(crate) const PAGE_BYTES: usize = 32 * 1024;
/// Pages of the first slab: 2 MiB.
const FIRST_PAGES: usize = 64;
/// Pages of every other slab: 32 MiB.
const SLAB_PAGES: usize = 1024;

/// A page that was taken.
pub(crate) type PageNumber = u32;

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Pages {
    slabs: Vec<Slab>,
    /// How many were ever taken at once.
    begun: usize,
    free: Vec<PageNumber>,
}

#[derive(Debug)]
enum Slab {
    Mapped(MmapMut),
    /// Where nothing can be mapped.
    Heap(Vec<u8>),
}

impl Deref for Slab {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        match self {
            Self::Mapped(memory) => memory,
            Self::Heap(memory) => memory,
        }
    }
}

impl DerefMut for Slab {
    fn deref_mut(&mut self) -> &mut [u8] {
        match self {
            Self::Mapped(memory) => memory,
            Self::Heap(memory) => memory,
        }
    }
}

impl Slab {
    fn new(index: usize) -> Self {
        let pages = if index == 0 { FIRST_PAGES } else { SLAB_PAGES };
        let bytes = pages * PAGE_BYTES;
        let Ok(memory) = MmapMut::map_anon(bytes) else { return Self::Heap(vec![0; bytes]) };
        if index > 0 {
            // A wish: a kernel without huge pages refuses it.
            let _ = memory.advise(Advice::HugePage);
        }
        Self::Mapped(memory)
    }
}

/// The slab that a page is in, and where in it.
fn place(page: PageNumber) -> (usize, usize) {
    let page = page as usize;
    let (slab, into) = match page.checked_sub(FIRST_PAGES) {
        None => (0, page),
        Some(behind) => (1 + behind / SLAB_PAGES, behind % SLAB_PAGES),
    };
    (slab, into * PAGE_BYTES)
}

impl Pages {
    /// A page. What stands in it is whatever its former user left.
    pub(crate) fn take(&mut self) -> PageNumber {
        if let Some(page) = self.free.pop() {
            return page;
        }
        // 2^32 of them are 128 TiB.
        let page = PageNumber::try_from(self.begun).unwrap_or(PageNumber::MAX);
        self.begun += 1;
        if place(page).0 >= self.slabs.len() {
            self.slabs.push(Slab::new(self.slabs.len()));
        }
        page
    }

    /// Bytes of all that were ever taken.
    pub(crate) fn bytes(&self) -> usize {
        self.begun * PAGE_BYTES
    }

    /// Nobody needs these any more.
    pub(crate) fn give_back(&mut self, pages: &[PageNumber]) {
        // Whoever takes one again is not to find zeros there by chance.
        #[cfg(test)]
        for page in pages {
            self.page_mut(*page).fill(0xa5);
        }
        self.free.extend_from_slice(pages);
        if self.free.len() == self.begun {
            *self = Self::default();
        }
    }

    /// A page's bytes.
    #[inline]
    pub(crate) fn page(&self, page: PageNumber) -> &[u8] {
        let (slab, at) = place(page);
        &self.slabs[slab][at..at + PAGE_BYTES]
    }

    /// A page's bytes.
    #[inline]
    pub(crate) fn page_mut(&mut self, page: PageNumber) -> &mut [u8] {
        let (slab, at) = place(page);
        &mut self.slabs[slab][at..at + PAGE_BYTES]
    }

    /// The bytes of two pages, of which the second is to be changed.
    pub(crate) fn copy(&mut self, from: (PageNumber, std::ops::Range<usize>), to: (PageNumber, usize)) {
        let ((from, range), (to, at)) = (from, to);
        let ((from_slab, from_at), (to_slab, to_at)) = (place(from), place(to));
        let source = from_at + range.start..from_at + range.end;
        let target = to_at + at;
        if from_slab == to_slab {
            self.slabs[to_slab].copy_within(source, target);
            return;
        }
        let (low, high) = self.slabs.split_at_mut(from_slab.max(to_slab));
        let (source_slab, target_slab) =
            if from_slab < to_slab { (&low[from_slab], &mut high[0]) } else { (&high[0], &mut low[to_slab]) };
        target_slab[target..target + range.len()].copy_from_slice(&source_slab[source]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mark(n: usize) -> u8 {
        (n % 251 + 1).to_le_bytes()[0]
    }

    #[test]
    fn pages_are_nobody_elses_however_often_they_were_used() {
        let mut pages = Pages::default();
        let count = FIRST_PAGES + SLAB_PAGES + 3;
        let all: Vec<PageNumber> = (0..count).map(|_| pages.take()).collect();
        for (n, page) in all.iter().enumerate() {
            pages.page_mut(*page).fill(mark(n));
        }
        for (n, page) in all.iter().enumerate() {
            assert!(pages.page(*page).iter().all(|byte| *byte == mark(n)), "page {n}");
        }
        // From a slab into the next, and back, and inside one.
        for (from, to) in [(3, count - 1), (count - 2, 5), (7, 9)] {
            pages.copy((all[from], 10..20), (all[to], 30));
            assert_eq!(pages.page(all[to])[30..40], pages.page(all[from])[10..20]);
        }
        pages.give_back(&all[..10]);
        let again = pages.take();
        assert!(all[..10].contains(&again));
        pages.give_back(&[again]);
        pages.give_back(&all[10..]);
        assert!(pages.slabs.is_empty(), "what nobody uses is the system's");
    }
}
