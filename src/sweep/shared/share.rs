//! How many of the free trials a worker takes at once.

/// What a worker sees when it is about to take trials.
#[derive(Debug, Clone, Copy)]
pub struct Supply {
    /// Trials that nobody trains.
    pub free: usize,
    /// Workers, this one included: those that live, or as many as are expected.
    pub workers: usize,
    /// Workers beside this one that train now.
    pub busy: usize,
    /// Has a trial ended yet?
    pub has_begun: bool,
}

impl Supply {
    /// The most trials that this worker takes. The first packs divide all trials equally; later ones leave a share for
    /// those that will be idle soon, so that all workers end at about the same time.
    pub fn share(self) -> usize {
        let workers = self.workers.max(1);
        let idle = if self.has_begun { workers } else { workers.saturating_sub(self.busy).max(1) };
        self.free.div_ceil(idle).max(1)
    }
}

#[cfg(test)]
mod tests {
    use super::Supply;

    #[test]
    fn the_first_packs_are_equal_and_the_last_ones_small() {
        let (mut free, mut packs) = (24, Vec::new());
        for busy in 0..4 {
            packs.push(Supply { free, workers: 4, busy, has_begun: false }.share());
            free -= packs[busy];
        }
        assert_eq!((packs, free), (vec![6, 6, 6, 6], 0));
        let later = |free| Supply { free, workers: 4, busy: 3, has_begun: true }.share();
        assert_eq!([later(40), later(9), later(4), later(1)], [10, 3, 1, 1]);
        // More workers than were expected.
        assert_eq!(Supply { free: 5, workers: 2, busy: 3, has_begun: false }.share(), 5);
    }
}
