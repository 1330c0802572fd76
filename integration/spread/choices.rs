//! The choices that a statement was made by, so that a simpler statement can be made by fewer and smaller ones.

use rand::Rng;
use rand::SeedableRng;
use rand::rngs::StdRng;

/// How often a smaller statement may be tried.
const ATTEMPTS_MAX: usize = 400;

/// Where choices come from. Among several, 0 is the simplest.
pub(crate) struct Choices {
    random: Option<StdRng>,
    given: Vec<u32>,
    made: Vec<u32>,
    /// Choices that belong together, as ranges of those made.
    spans: Vec<(usize, usize)>,
}

/// What was chosen.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    made: Vec<u32>,
    spans: Vec<(usize, usize)>,
}

impl Choices {
    pub(crate) fn random(seed: u64) -> Self {
        Self { random: Some(StdRng::seed_from_u64(seed)), given: Vec::new(), made: Vec::new(), spans: Vec::new() }
    }

    /// The same choices again; beyond their end the simplest.
    fn again(given: Vec<u32>) -> Self {
        Self { random: None, given, made: Vec::new(), spans: Vec::new() }
    }

    pub(crate) fn chosen(self) -> Chosen {
        Chosen { made: self.made, spans: self.spans }
    }

    pub(crate) fn below(&mut self, count: usize) -> usize {
        let chosen = match &mut self.random {
            Some(random) => random.random_range(0..count),
            None => self.given.get(self.made.len()).map_or(0, |it| *it as usize) % count,
        };
        self.made.push(u32::try_from(chosen).expect("few"));
        chosen
    }

    pub(crate) fn chance(&mut self, percent: usize) -> bool {
        self.below(100) + percent >= 100
    }

    #[allow(dead_code, reason = "not every test has such lists")]
    pub(crate) fn one<'a, T: ?Sized>(&mut self, of: &[&'a T]) -> &'a T {
        of[self.below(of.len())]
    }

    /// Where a span begins.
    pub(crate) fn begin(&self) -> usize {
        self.made.len()
    }

    pub(crate) fn end(&mut self, begin: usize) {
        if self.made.len() > begin {
            self.spans.push((begin, self.made.len()));
        }
    }
}

/// Fewer and smaller choices that still have what `try_it` looks for: it makes something of choices, and says whether.
pub(crate) fn shrink(chosen: Chosen, try_it: &mut dyn FnMut(&mut Choices) -> bool) -> Choices {
    let mut best = chosen;
    let mut left = ATTEMPTS_MAX;
    let mut attempt = |best: &mut Chosen, made: Vec<u32>| {
        if left == 0 || made == best.made {
            return false;
        }
        left -= 1;
        let mut choices = Choices::again(made);
        let holds = try_it(&mut choices);
        let smaller = (choices.made.len(), &choices.made) < (best.made.len(), &best.made);
        if holds && smaller {
            *best = choices.chosen();
        }
        holds && smaller
    };
    loop {
        let before = best.made.clone();
        // Whole parts, the largest first.
        let mut at = 0;
        loop {
            let mut spans = best.spans.clone();
            spans.sort_by_key(|(begin, end)| (std::cmp::Reverse(end - begin), *begin));
            let Some((begin, end)) = spans.get(at).copied() else { break };
            let without = [&best.made[..begin], &best.made[end..]].concat();
            let mut simplest = best.made.clone();
            simplest[begin..end].fill(0);
            if !attempt(&mut best, without) && !attempt(&mut best, simplest) {
                at += 1;
            }
        }
        for width in [4, 2, 1] {
            let mut at = 0;
            while at + width <= best.made.len() {
                let without = [&best.made[..at], &best.made[at + width..]].concat();
                if !attempt(&mut best, without) {
                    at += 1;
                }
            }
        }
        for at in 0.. {
            let Some(value) = best.made.get(at).copied() else { break };
            for smaller in [0, value / 2, value.saturating_sub(1)] {
                let mut made = best.made.clone();
                if let Some(it) = made.get_mut(at) {
                    *it = smaller;
                }
                if attempt(&mut best, made) {
                    break;
                }
            }
        }
        if best.made == before {
            return Choices::again(best.made);
        }
    }
}

#[test]
fn what_is_not_needed_is_dropped() {
    let make = |choices: &mut Choices| {
        let mut parts = Vec::new();
        loop {
            let begin = choices.begin();
            let more = choices.chance(90);
            let part = if more { choices.below(50) } else { 0 };
            choices.end(begin);
            if !more {
                return parts;
            }
            parts.push(part);
        }
    };
    let mut random = Choices::random(3);
    while !make(&mut random).iter().any(|it| *it > 10) {}
    let mut small = shrink(random.chosen(), &mut |it| make(it).iter().any(|it| *it > 10));
    assert_eq!(make(&mut small), [11]);
}
