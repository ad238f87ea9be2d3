//! The ready jobs of one tenant in one queue, best first, with full concurrency keys out of the way.
//!
//! A *lane* is a tenant in a queue, a *group* is a concurrency key in a lane, or all jobs of the lane without one. Of each group
//! only the best job, its head, competes in the lane, and only while the group has a place. So a key with a hundred thousand
//! jobs is one entry or none, and opening or closing it moves one entry.
//!
//! *Owns:* the order within a lane, places per key. *Never:* which lane is next, time.
//! *Bound:* a group goes when no job of it waits or runs; a lane stays (tenants × queues of the configuration).

use std::collections::{BTreeMap, BTreeSet};
use std::num::NonZeroU32;
use std::sync::Arc;

use strongroom_job::{JobId, Timestamp};

use super::slab::Slab;
use super::{LaneId, QueueId, TenantId};

/// A waiting job's number while it waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Slot(NonZeroU32);

/// A group's number while any job of it waits or runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct GroupId(NonZeroU32);

/// Smaller is better: by priority (highest first), then by order of admission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Order(u64);

/// The bits of [`Order`] for the order of admission; the other eight are the priority's.
const ADMITTED_BITS: u32 = 56;

impl Order {
    pub(super) fn new(priority: i8, admitted: u64) -> Self {
        let last = (1 << ADMITTED_BITS) - 1;
        // 127 is 0, -128 is 255.
        let rank = u64::from(i8::MAX.abs_diff(priority));
        Self(rank << ADMITTED_BITS | admitted.min(last))
    }
}

/// Where a waiting job is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    /// Its time has not come.
    Scheduled,
    /// It can start as soon as there is room.
    Ready,
    /// It has expired, and nobody has been told.
    Expired,
}

/// One waiting job. 48 bytes, of which there may be a million.
#[derive(Debug)]
pub(super) struct Waiting {
    pub(super) job: JobId,
    pub(super) order: Order,
    pub(super) ready_at: Timestamp,
    /// The end of time when it does not expire.
    pub(super) expires_at: Timestamp,
    pub(super) group: GroupId,
    pub(super) place: Place,
}

#[derive(Debug)]
struct Group {
    /// The key; empty for the jobs without one.
    key: Arc<str>,
    lane: LaneId,
    running: u32,
    /// Jobs of it that wait, ready or not.
    waiting: u32,
    /// The best of its ready jobs.
    head: Option<Slot>,
}

#[derive(Debug)]
pub(super) struct Lane {
    pub(super) tenant: TenantId,
    pub(super) queue: QueueId,
    pub(super) running: u32,
    max_per_key: Option<u32>,
    /// The group of the jobs without a key, which is never full and stays.
    keyless: GroupId,
    keys: BTreeMap<Arc<str>, GroupId>,
    /// The heads of all groups with a place.
    heads: BTreeSet<(Order, Slot)>,
    /// All other ready jobs, except for heads of full groups, which are in none of the two.
    behind: BTreeSet<(GroupId, Order, Slot)>,
}

/// All waiting jobs, and the ready ones in their order.
#[derive(Debug)]
pub(super) struct Backlog {
    jobs: Slab<Waiting>,
    groups: Slab<Group>,
    lanes: Vec<Lane>,
}

impl Backlog {
    pub(super) const fn new() -> Self {
        Self { jobs: Slab::new(), groups: Slab::new(), lanes: Vec::new() }
    }

    pub(super) fn len(&self) -> usize {
        self.jobs.len()
    }

    pub(super) fn lane(&self, lane: LaneId) -> &Lane {
        &self.lanes[lane.index()]
    }

    pub(super) fn lane_mut(&mut self, lane: LaneId) -> &mut Lane {
        &mut self.lanes[lane.index()]
    }

    pub(super) fn job(&self, slot: Slot) -> &Waiting {
        self.jobs.at(slot.0)
    }

    pub(super) fn lane_of(&self, group: GroupId) -> LaneId {
        self.groups.at(group.0).lane
    }

    /// The best job of the lane that no key holds back.
    pub(super) fn best(&self, lane: LaneId) -> Option<(Order, Slot)> {
        self.lane(lane).heads.first().copied()
    }

    /// A new lane. Its number is the next one.
    pub(super) fn push_lane(&mut self, tenant: TenantId, queue: QueueId, max_per_key: Option<u32>) -> LaneId {
        let lane = LaneId::new(self.lanes.len());
        let keyless = self.push_group(lane, "".into());
        self.lanes.push(Lane {
            tenant,
            queue,
            running: 0,
            max_per_key,
            keyless,
            keys: BTreeMap::new(),
            heads: BTreeSet::new(),
            behind: BTreeSet::new(),
        });
        lane
    }

    /// The group of a key in a lane. A key that nothing depends on is as good as none.
    pub(super) fn group(&mut self, lane: LaneId, key: Option<&str>) -> GroupId {
        let known = &self.lanes[lane.index()];
        let Some(key) = key.filter(|_| known.max_per_key.is_some()) else {
            return known.keyless;
        };
        if let Some(group) = known.keys.get(key) {
            return *group;
        }
        let key: Arc<str> = key.into();
        let group = self.push_group(lane, key.clone());
        self.lane_mut(lane).keys.insert(key, group);
        group
    }

    fn push_group(&mut self, lane: LaneId, key: Arc<str>) -> GroupId {
        GroupId(self.groups.insert(Group { key, lane, running: 0, waiting: 0, head: None }))
    }

    /// Takes a job in, which competes only once it is [`Backlog::promote`]d.
    pub(super) fn insert(&mut self, job: Waiting) -> Slot {
        self.groups.at_mut(job.group.0).waiting += 1;
        Slot(self.jobs.insert(job))
    }

    /// Forgets a job that does not compete (any more).
    pub(super) fn forget(&mut self, slot: Slot) -> Option<Waiting> {
        let job = self.jobs.remove(slot.0)?;
        self.groups.at_mut(job.group.0).waiting -= 1;
        self.release(job.group);
        Some(job)
    }

    /// Notes that a job that does not compete has expired.
    pub(super) fn mark_expired(&mut self, slot: Slot) {
        self.jobs.at_mut(slot.0).place = Place::Expired;
    }

    /// Lets a job compete.
    pub(super) fn promote(&mut self, slot: Slot) {
        let job = self.jobs.at_mut(slot.0);
        job.place = Place::Ready;
        let (group, order) = (job.group, job.order);
        match self.groups.at(group.0).head {
            Some(head) if (self.job(head).order, head) < (order, slot) => {
                let lane = self.lane_of(group);
                self.lane_mut(lane).behind.insert((group, order, slot));
            }
            Some(head) => {
                let lane = self.lane_of(group);
                let second = self.job(head).order;
                self.lane_mut(lane).behind.insert((group, second, head));
                self.set_head(group, Some(slot));
            }
            None => self.set_head(group, Some(slot)),
        }
    }

    /// Takes a job out of the competition.
    pub(super) fn withdraw(&mut self, slot: Slot) {
        let Waiting { group, order, .. } = *self.job(slot);
        let lane = self.lane_of(group);
        if self.groups.at(group.0).head != Some(slot) {
            self.lane_mut(lane).behind.remove(&(group, order, slot));
            return;
        }
        let behind = &mut self.lanes[lane.index()].behind;
        let first = (group, Order(0), Slot(NonZeroU32::MIN));
        let next = behind.range(first..).next().copied().filter(|(other, ..)| *other == group);
        if let Some(next) = &next {
            behind.remove(next);
        }
        self.set_head(group, next.map(|(_, _, slot)| slot));
    }

    /// One more job of the group runs.
    pub(super) fn start(&mut self, group: GroupId) {
        let lane = self.lane_of(group);
        self.lane_mut(lane).running += 1;
        self.hide(group);
        self.groups.at_mut(group.0).running += 1;
        self.show(group);
    }

    /// One job of the group runs no longer.
    pub(super) fn end(&mut self, group: GroupId) {
        let lane = self.lane_of(group);
        self.lane_mut(lane).running -= 1;
        self.groups.at_mut(group.0).running -= 1;
        self.show(group);
        self.release(group);
    }

    fn set_head(&mut self, group: GroupId, head: Option<Slot>) {
        self.hide(group);
        self.groups.at_mut(group.0).head = head;
        self.show(group);
    }

    /// Puts the group's head among the heads of its lane if it has a place.
    fn show(&mut self, id: GroupId) {
        let group = self.groups.at(id.0);
        let lane = &mut self.lanes[group.lane.index()];
        let full = id != lane.keyless && lane.max_per_key.is_some_and(|max| group.running >= max);
        if let Some(head) = group.head.filter(|_| !full) {
            lane.heads.insert((self.jobs.at(head.0).order, head));
        }
    }

    fn hide(&mut self, id: GroupId) {
        let group = self.groups.at(id.0);
        if let Some(head) = group.head {
            self.lanes[group.lane.index()].heads.remove(&(self.jobs.at(head.0).order, head));
        }
    }

    /// Forgets a key that no job has.
    fn release(&mut self, id: GroupId) {
        let group = self.groups.at(id.0);
        let lane = &mut self.lanes[group.lane.index()];
        if group.running == 0 && group.waiting == 0 && id != lane.keyless {
            lane.keys.remove(&group.key);
            self.groups.remove(id.0);
        }
    }
}
