//! Bytes that are cheap to copy: in pages, shared until they change.

use std::sync::Arc;

const PAGE: usize = 4096;

/// A file's bytes.
#[derive(Clone, Default, Debug)]
pub(crate) struct Pages {
    /// `None`: zeros.
    pages: Vec<Option<Arc<[u8; PAGE]>>>,
    len: usize,
}

impl Pages {
    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn set_len(&mut self, len: usize) {
        if len < self.len && !len.is_multiple_of(PAGE) {
            // What lies behind the end must read zero if the file grows again.
            let tail = vec![0; (PAGE - len % PAGE).min(self.len - len)];
            self.write(len, &tail);
        }
        self.len = len;
        self.pages.resize(len.div_ceil(PAGE), None);
    }

    pub(crate) fn write(&mut self, at: usize, bytes: &[u8]) {
        if self.len < at + bytes.len() {
            self.set_len(at + bytes.len());
        }
        let mut done = 0;
        while done < bytes.len() {
            let (page, into) = ((at + done) / PAGE, (at + done) % PAGE);
            let count = (PAGE - into).min(bytes.len() - done);
            let page = self.pages[page].get_or_insert_with(|| Arc::new([0; PAGE]));
            Arc::make_mut(page)[into..into + count].copy_from_slice(&bytes[done..done + count]);
            done += count;
        }
    }

    /// Reads up to the end; answers with the bytes read.
    pub(crate) fn read(&self, at: usize, buffer: &mut [u8]) -> usize {
        let total = buffer.len().min(self.len.saturating_sub(at));
        let mut done = 0;
        while done < total {
            let (page, into) = ((at + done) / PAGE, (at + done) % PAGE);
            let count = (PAGE - into).min(total - done);
            match &self.pages[page] {
                Some(page) => buffer[done..done + count].copy_from_slice(&page[into..into + count]),
                None => buffer[done..done + count].fill(0),
            }
            done += count;
        }
        total
    }

    pub(crate) fn to_vec(&self) -> Vec<u8> {
        let mut out = vec![0; self.len];
        self.read(0, &mut out);
        out
    }
}
