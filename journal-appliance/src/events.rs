//! What is worth an event, and how it reads.
//!
//! Owns the sentences of the appliance's events and the watch that notices where a gap begins and ends. Where they are
//! kept is `control::events`; nothing here waits or fails.

use control::events::{EventKind, Events, News};
use journal::{Damage, Journal, TimelineView};

/// Watches whether points are being refused.
#[derive(Clone, Copy, Debug, Default)]
pub struct GapWatch {
    open: bool,
}

impl GapWatch {
    /// As it is at the beginning, so that only changes are told.
    pub fn over(journal: &Journal) -> Self {
        Self { open: journal.has_open_gap() }
    }

    /// Tells when it is not as it was. Cheap while nothing changed.
    pub fn look(&mut self, group: &str, journal: &Journal, events: &Events) {
        let open = journal.has_open_gap();
        if open != self.open {
            self.open = open;
            events.tell(gap(open, &journal.timeline()).group(group));
        }
    }
}

/// A place of the journal is damaged.
pub fn damaged(damage: &Damage) -> News {
    let text = format!("the journal is damaged at {}; images that need it are refused there", damage.place);
    News::new(EventKind::Alarm, text).bytes(damage.bytes)
}

fn gap(open: bool, timeline: &TimelineView) -> News {
    let newest = timeline.gaps.last();
    if open {
        let cause = newest.map_or_else(|| "writes were not recorded".to_owned(), |gap| gap.cause.to_string());
        let from = newest.map_or(timeline.head.position, |gap| gap.begin.position);
        News::new(EventKind::GapBegun, format!("points from seq:{from} on are refused: {cause}"))
    } else {
        let from = newest.and_then(|gap| gap.end).map_or(timeline.head.position, |end| end.position);
        News::new(EventKind::GapClosed, format!("points are offered again from seq:{from} on"))
    }
}
