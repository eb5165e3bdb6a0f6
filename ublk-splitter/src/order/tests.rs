//! The range lock: overlapping requests run one after the other in the order taken, the others freely.

use super::*;
use proptest::prelude::*;

const V: Incarnation = Incarnation::new(1);
const W: Incarnation = Incarnation::new(2);

fn extent(start: u64, count: u64) -> Extent {
    Extent::new(start, count).unwrap()
}

#[test]
fn overlapping_requests_are_held_one_after_the_other_in_the_order_taken() {
    let mut order = Order::default();
    let (a, held_a) = order.take(V, extent(0, 8));
    let (b, held_b) = order.take(V, extent(4, 8));
    let (c, held_c) = order.take(V, extent(8, 8));
    assert!(held_a && !held_b && !held_c, "c waits for b, which waits for a");
    assert_eq!(order.release(V, a), vec![b]);
    assert_eq!(order.release(V, b), vec![c]);
    assert_eq!(order.release(V, c), vec![]);
    assert_eq!(order.in_flight(), 0);
}

#[test]
fn the_same_sectors_of_another_volume_do_not_wait() {
    let mut order = Order::default();
    assert!(order.take(V, extent(0, 8)).1);
    assert!(order.take(W, extent(0, 8)).1);
}

#[test]
fn what_overlaps_a_read_back_is_not_to_be_taken_until_it_is_released() {
    let mut order = Order::default();
    let (first, _) = order.take(V, extent(0, 8));
    assert!(!order.is_being_read(V, extent(0, 8)));
    let (reading, held) = order.take_reading(V, extent(4, 8));
    assert!(!held, "it waits for what was taken before");
    assert!(order.is_being_read(V, extent(11, 1)) && !order.is_being_read(V, extent(12, 1)));
    assert!(!order.is_being_read(W, extent(4, 8)));
    assert_eq!(order.release(V, first), vec![reading]);
    assert!(order.is_being_read(V, extent(4, 1)));
    order.release(V, reading);
    assert!(!order.is_being_read(V, extent(4, 1)));
}

proptest! {
    /// Whatever is taken and released: no two held extents overlap, nobody overtakes an earlier overlapping one, and
    /// when everything held is released again and again, everybody has had a turn.
    #[test]
    fn no_two_held_extents_overlap_and_everybody_gets_a_turn(
        steps in proptest::collection::vec((0u64..64, 1u64..16, any::<bool>()), 1..80)
    ) {
        let mut order = Order::default();
        let mut alive: Vec<(Ticket, Extent, bool)> = Vec::new();
        let check = |alive: &[(Ticket, Extent, bool)]| {
            for (i, (_, e, held)) in alive.iter().enumerate() {
                let blocked = alive[..i].iter().any(|(_, f, _)| f.overlaps(*e));
                assert_eq!(*held, !blocked, "held exactly when no earlier one overlaps");
            }
        };
        let release = |order: &mut Order, alive: &mut Vec<(Ticket, Extent, bool)>, at: usize| {
            let (ticket, _, _) = alive.remove(at);
            for granted in order.release(V, ticket) {
                alive.iter_mut().find(|(t, _, _)| *t == granted).unwrap().2 = true;
            }
        };
        for (start, count, drop) in steps {
            let (ticket, held) = order.take(V, extent(start, count));
            alive.push((ticket, extent(start, count), held));
            check(&alive);
            if drop {
                let at = alive.iter().position(|(_, _, held)| *held).unwrap();
                release(&mut order, &mut alive, at);
                check(&alive);
            }
        }
        while !alive.is_empty() {
            let at = alive.iter().position(|(_, _, held)| *held).expect("somebody is always held");
            release(&mut order, &mut alive, at);
            check(&alive);
        }
    }
}
