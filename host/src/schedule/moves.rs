//! What the public verbs of [`Schedule`] are made of: moves that keep sets, counts and shares in step, and who may start.

use std::collections::BTreeSet;

use strongroom_job::{JobId, Name, QueueMode};

use super::backlog::{Order, Place, Slot, Waiting};
use super::bucket::Bucket;
use super::{LaneCounts, LaneId, NOT_YET, Queue, QueueId, Schedule, Tally, Tenant, TenantId};

impl Queue {
    /// Whether one more of its jobs may run, as far as places go.
    pub(super) fn has_room(&self) -> bool {
        self.mode != QueueMode::Paused && is_below(self.jobs.running, self.rules.max_running)
    }

    fn has_token(&self) -> bool {
        self.bucket.as_ref().is_none_or(Bucket::has_token)
    }
}

impl Schedule {
    /// The best job of the tenant that may start now.
    pub(super) fn best_of(&self, id: TenantId) -> Option<Slot> {
        let tenant = &self.tenants[id.index()];
        if !is_below(tenant.jobs.running, tenant.max_running) {
            return None;
        }
        let open = tenant.lanes.iter().filter(|lane| self.may_start(**lane));
        let best: Option<(Order, Slot)> = open.filter_map(|lane| self.backlog.best(*lane)).min();
        best.map(|(_, slot)| slot)
    }

    /// Whether the lane's queue and its own limit let one more job start now.
    fn may_start(&self, id: LaneId) -> bool {
        let lane = self.backlog.lane(id);
        let queue = &self.queues[lane.queue.index()];
        queue.has_room() && queue.has_token() && is_below(lane.running, queue.rules.max_running_per_tenant)
    }

    /// Whether some job of the lane could start now, if its queue had room and a token.
    pub(super) fn could_start(&self, id: LaneId) -> bool {
        let lane = self.backlog.lane(id);
        let tenant = &self.tenants[lane.tenant.index()];
        self.backlog.best(id).is_some()
            && is_below(tenant.jobs.running, tenant.max_running)
            && is_below(lane.running, self.queues[lane.queue.index()].rules.max_running_per_tenant)
    }

    /// Lets a job compete that is in no set of its queue.
    pub(super) fn make_ready(&mut self, slot: Slot) {
        let Waiting { group, ready_at, .. } = *self.backlog.job(slot);
        let lane = self.backlog.lane_of(group);
        let (tenant, _) = self.ends_of(lane);
        self.lane_counts[lane.index()].ready_since.insert((ready_at, slot));
        self.backlog.promote(slot);
        self.count(lane, |jobs| jobs.queued += 1);
        if self.tenants[tenant.index()].jobs.queued == 1 {
            self.shares.join(tenant);
        }
    }

    /// Takes a scheduled or ready job out of everything but the list of what waits.
    pub(super) fn set_aside(&mut self, slot: Slot) {
        let Waiting { group, ready_at, place, .. } = *self.backlog.job(slot);
        let lane = self.backlog.lane_of(group);
        let (tenant, queue) = self.ends_of(lane);
        if place == Place::Scheduled && ready_at == NOT_YET {
            self.count(lane, |jobs| jobs.held -= 1);
            return;
        }
        if place == Place::Scheduled {
            self.queues[queue.index()].timers.remove(&(ready_at, slot));
            self.count(lane, |jobs| jobs.scheduled -= 1);
            return;
        }
        self.lane_counts[lane.index()].ready_since.remove(&(ready_at, slot));
        self.backlog.withdraw(slot);
        self.count(lane, |jobs| jobs.queued -= 1);
        if self.tenants[tenant.index()].jobs.queued == 0 {
            self.shares.leave(tenant);
        }
    }

    /// Forgets a job that was set aside.
    pub(super) fn forget(&mut self, slot: Slot) -> Option<JobId> {
        let job = self.backlog.forget(slot)?.job;
        self.waiting.remove(&job);
        Some(job)
    }

    /// Counts a job at its tenant, its queue and its lane.
    pub(super) fn count(&mut self, lane: LaneId, change: impl Fn(&mut Tally)) {
        let (tenant, queue) = self.ends_of(lane);
        change(&mut self.tenants[tenant.index()].jobs);
        change(&mut self.queues[queue.index()].jobs);
        change(&mut self.lane_counts[lane.index()].jobs);
    }

    pub(super) fn ends_of(&self, lane: LaneId) -> (TenantId, QueueId) {
        let lane = self.backlog.lane(lane);
        (lane.tenant, lane.queue)
    }

    pub(super) fn lane(&mut self, tenant: &Name, queue: &Name) -> LaneId {
        let (tenant, queue) = (self.tenant(tenant), self.queue(queue));
        if let Some(lane) = self.lane_ids.get(&(tenant, queue)) {
            return *lane;
        }
        let max_per_key = self.queues[queue.index()].rules.max_running_per_group;
        let lane = self.backlog.push_lane(tenant, queue, max_per_key);
        self.lane_ids.insert((tenant, queue), lane);
        self.lane_counts.push(LaneCounts::default());
        self.tenants[tenant.index()].lanes.push(lane);
        self.queues[queue.index()].lanes.push(lane);
        lane
    }

    pub(super) fn tenant(&mut self, name: &Name) -> TenantId {
        if let Some(id) = self.tenant_ids.get(name) {
            return *id;
        }
        let id = TenantId::new(self.tenants.len());
        let rules = self.tenant_rules.get(name).cloned().unwrap_or_default();
        self.shares.push(rules.weight);
        self.tenants.push(Tenant {
            name: name.clone(),
            max_running: rules.max_running,
            lanes: Vec::new(),
            jobs: Tally::default(),
        });
        self.tenant_ids.insert(name.clone(), id);
        id
    }

    pub(super) fn queue(&mut self, name: &Name) -> QueueId {
        if let Some(id) = self.queue_ids.get(name) {
            return *id;
        }
        let id = QueueId::new(self.queues.len());
        let rules = self.queue_rules.get(name).cloned().unwrap_or_default();
        self.queues.push(Queue {
            name: name.clone(),
            bucket: rules.rate.map(|rate| Bucket::new(rate, self.now)),
            rules,
            mode: QueueMode::default(),
            lanes: Vec::new(),
            jobs: Tally::default(),
            timers: BTreeSet::new(),
        });
        self.queue_ids.insert(name.clone(), id);
        id
    }
}

fn is_below(running: u32, max: Option<u32>) -> bool {
    max.is_none_or(|max| running < max)
}
