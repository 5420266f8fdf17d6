//! What time does to a group: silent members, and those who do not do what they have to, are out.

use super::{ConsumerGroup, Ctx, MemberId};

impl ConsumerGroup {
    /// Removes every member whose time is up. True when somebody was.
    pub(crate) fn tick(&mut self, ctx: &mut Ctx<'_>) -> bool {
        let late = self
            .members
            .values()
            .filter(|member| member.deadline_ms() <= ctx.now_ms);
        let late: Vec<MemberId> = late.map(|member| member.id.clone()).collect();
        self.remove_all(&late, ctx);
        self.pending.retain(|_, lapses_ms| *lapses_ms > ctx.now_ms);
        let deadlines = self.members.values().map(|member| member.deadline_ms());
        let deadlines = deadlines.chain(self.pending.values().copied());
        self.deadline_hint_ms = deadlines.min().unwrap_or(i64::MAX);
        !late.is_empty()
    }
}
