//! Telling what happens to a group's stream.
//!
//! Owns nothing but the way to `control::events`, which never waits: it may be called under the group's lock. A stream
//! that nobody gave a place to tell (a simulated world's, a test's) tells nobody.

use super::Stream;
use control::events::{EventKind, Events, News};

static NOBODY: Events = Events::silent();

impl Stream {
    /// Where to tell from now on; said once.
    pub fn set_events(&self, events: Events) {
        // Whoever comes second changes nothing.
        let _ = self.events.set(events);
    }

    /// Where what happens is told.
    pub fn events(&self) -> &Events {
        self.events.get().unwrap_or(&NOBODY)
    }

    /// Tells of something that happened to the group.
    pub fn tell(&self, kind: EventKind, text: impl Into<String>) {
        self.events().tell(News::new(kind, text).group(&self.group));
    }
}
