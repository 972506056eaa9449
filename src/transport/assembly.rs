//! Puts parts together, in whatever order and however often they come. Pure.

use crate::task::TaskId;
use crate::wire::{self, PART_BYTES_MAX, Part};

/// How a payload is cut.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Cut {
    total_bytes: usize,
    part_bytes: usize,
}

impl Cut {
    /// Cuts `total_bytes` into parts of `part_bytes`.
    ///
    /// # Errors
    /// [`wire::Error::Malformed`] if either is zero, parts are above [`PART_BYTES_MAX`], or there are 2^32 of them.
    pub fn new(total_bytes: u64, part_bytes: u32) -> Result<Self, wire::Error> {
        let malformed = |reason: String| wire::Error::Malformed { record: "part", reason };
        if total_bytes == 0 || part_bytes == 0 || part_bytes > PART_BYTES_MAX {
            return Err(malformed(format!("{total_bytes} bytes in parts of {part_bytes}")));
        }
        if total_bytes.div_ceil(u64::from(part_bytes)) > u64::from(u32::MAX) {
            return Err(malformed(format!("{total_bytes} bytes make too many parts of {part_bytes}")));
        }
        let total_bytes = usize::try_from(total_bytes).map_err(|e| malformed(e.to_string()))?;
        Ok(Cut { total_bytes, part_bytes: part_bytes as usize })
    }

    /// Number of parts.
    pub fn count(&self) -> u32 {
        // `new` has made sure that it fits.
        self.total_bytes.div_ceil(self.part_bytes) as u32
    }

    /// The bytes that part `index` covers; empty past the end.
    pub fn range(&self, index: u32) -> std::ops::Range<usize> {
        let start = (index as usize).saturating_mul(self.part_bytes).min(self.total_bytes);
        start..start.saturating_add(self.part_bytes).min(self.total_bytes)
    }

    /// The bytes that a part covers, if it is cut like this and as long as its place.
    fn place(&self, part: &Part, body: &[u8]) -> Result<std::ops::Range<usize>, wire::Error> {
        let malformed = |reason: String| wire::Error::Malformed { record: "part", reason };
        if Cut::new(part.total_bytes, part.part_bytes)? != *self {
            return Err(malformed(format!("cut as {} by {}", part.total_bytes, part.part_bytes)));
        }
        let range = self.range(part.index);
        if body.is_empty() || body.len() != range.len() {
            return Err(malformed(format!("part {} has {} bytes, not {}", part.index, body.len(), range.len())));
        }
        Ok(range)
    }

    /// Checks all of a part: before a buffer is taken for the payload that it begins.
    ///
    /// # Errors
    /// [`wire::Error::Malformed`] for one that is cut otherwise or of a wrong length; [`wire::Error::Checksum`].
    pub fn check(&self, part: &Part, body: &[u8]) -> Result<(), wire::Error> {
        self.place(part, body)?;
        wire::verify(Some(part.checksum), body)
    }
}

/// What a part did.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Accepted {
    /// It was missing.
    New,
    /// It was there already, and is left alone.
    Double,
}

/// A payload being put together in a buffer of exactly its length.
#[derive(Debug)]
pub struct Assembly<B> {
    id: TaskId,
    run: u64,
    cut: Cut,
    have: Vec<bool>,
    missing: u32,
    buffer: B,
}

impl<B: AsRef<[u8]> + AsMut<[u8]>> Assembly<B> {
    /// Parts of this task and run, cut like this, will be written into `buffer`.
    ///
    /// # Panics
    /// If the buffer has another length than the payload: a mistake of the caller, not of the bytes.
    pub fn new(id: TaskId, run: u64, cut: Cut, buffer: B) -> Self {
        assert_eq!(buffer.as_ref().len(), cut.total_bytes, "the buffer is as long as the payload");
        Assembly { id, run, cut, have: vec![false; cut.count() as usize], missing: cut.count(), buffer }
    }

    /// Writes a part at its place, after checking that it belongs here and is intact.
    ///
    /// # Errors
    /// [`wire::Error::Malformed`] for a part of something else, cut otherwise, or of a wrong length;
    /// [`wire::Error::Checksum`]. The assembly is then as before.
    pub fn accept(&mut self, part: &Part, body: &[u8]) -> Result<Accepted, wire::Error> {
        let malformed = |reason: String| wire::Error::Malformed { record: "part", reason };
        if (part.id, part.run) != (self.id, self.run) {
            return Err(malformed(format!(
                "of task {} run {:x}, not {} run {:x}",
                part.id, part.run, self.id, self.run
            )));
        }
        let range = self.cut.place(part, body)?;
        let have = &mut self.have[part.index as usize];
        if *have {
            return Ok(Accepted::Double);
        }
        wire::verify(Some(part.checksum), body)?;
        self.buffer.as_mut()[range].copy_from_slice(body);
        *have = true;
        self.missing -= 1;
        Ok(Accepted::New)
    }

    /// Whether every part is there.
    pub fn is_complete(&self) -> bool {
        self.missing == 0
    }

    /// Indices below `end` of the parts that are not there.
    pub fn missing_before(&self, end: u32) -> impl Iterator<Item = u32> + '_ {
        let end = (end as usize).min(self.have.len());
        self.have[..end].iter().zip(0u32..).filter(|(have, _)| !**have).map(|(_, index)| index)
    }

    /// The payload, if it is complete.
    pub fn finish(self) -> Option<B> {
        self.is_complete().then_some(self.buffer)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts_of(payload: &[u8], id: TaskId, run: u64, part_bytes: u32) -> Vec<(Part, Vec<u8>)> {
        let cut = Cut::new(payload.len() as u64, part_bytes).unwrap();
        (0..cut.count())
            .map(|index| {
                let body = payload[cut.range(index)].to_vec();
                let total_bytes = payload.len() as u64;
                (Part { id, run, index, part_bytes, total_bytes, checksum: wire::checksum(&[&body]) }, body)
            })
            .collect()
    }

    proptest! {
        #[test]
        fn parts_in_any_order_and_doubled_make_the_payload(
            payload in proptest::collection::vec(any::<u8>(), 1..2000),
            part_bytes in 1u32..700,
            order in proptest::collection::vec(any::<prop::sample::Index>(), 0..100),
        ) {
            let parts = parts_of(&payload, TaskId(1), 2, part_bytes);
            let cut = Cut::new(payload.len() as u64, part_bytes).unwrap();
            let mut assembly = Assembly::new(TaskId(1), 2, cut, vec![0; payload.len()]);
            let shuffled = order.iter().map(|pick| pick.index(parts.len())).chain((0..parts.len()).rev());
            for index in shuffled {
                assembly.accept(&parts[index].0, &parts[index].1).unwrap();
            }
            prop_assert!(assembly.is_complete());
            prop_assert_eq!(assembly.finish().unwrap(), payload);
        }

        #[test]
        fn without_one_part_it_is_not_complete(
            payload in proptest::collection::vec(any::<u8>(), 1..2000),
            part_bytes in 1u32..700,
            lost in any::<prop::sample::Index>(),
        ) {
            let parts = parts_of(&payload, TaskId(1), 2, part_bytes);
            let lost = lost.index(parts.len());
            let cut = Cut::new(payload.len() as u64, part_bytes).unwrap();
            let mut assembly = Assembly::new(TaskId(1), 2, cut, vec![0; payload.len()]);
            for (index, (part, body)) in parts.iter().enumerate() {
                if index != lost {
                    assembly.accept(part, body).unwrap();
                }
            }
            prop_assert_eq!(assembly.missing_before(u32::MAX).collect::<Vec<_>>(), vec![lost as u32]);
            prop_assert!(assembly.finish().is_none());
        }

        #[test]
        fn any_part_is_an_error_and_not_a_panic(
            index: u32, part_bytes: u32, total_bytes: u64, checksum: u32,
            body in proptest::collection::vec(any::<u8>(), 0..200),
        ) {
            let cut = Cut::new(100, 30).unwrap();
            let mut assembly = Assembly::new(TaskId(1), 2, cut, vec![0; 100]);
            let part = Part { id: TaskId(1), run: 2, index, part_bytes, total_bytes, checksum };
            let _ = assembly.accept(&part, &body);
            let part = Part { part_bytes: 30, total_bytes: 100, ..part };
            let _ = assembly.accept(&part, &body);
        }
    }

    #[test]
    fn parts_of_a_dead_attempt_are_refused() {
        let payload = vec![3; 100];
        let cut = Cut::new(100, 30).unwrap();
        let mut assembly = Assembly::new(TaskId(1), 2, cut, vec![0; 100]);
        for (part, body) in parts_of(&payload, TaskId(1), 9, 30).iter().chain(&parts_of(&payload, TaskId(4), 2, 30)) {
            assert!(assembly.accept(part, body).is_err());
        }
        assert_eq!(assembly.missing_before(u32::MAX).count(), 4);
    }

    #[test]
    fn a_damaged_part_leaves_the_place_free_for_a_good_one() {
        let parts = parts_of(&[5; 100], TaskId(1), 2, 30);
        let mut assembly = Assembly::new(TaskId(1), 2, Cut::new(100, 30).unwrap(), vec![0; 100]);
        let mut damaged = parts[0].1.clone();
        damaged[3] ^= 1;
        assert!(matches!(assembly.accept(&parts[0].0, &damaged), Err(wire::Error::Checksum { .. })));
        assert_eq!(assembly.accept(&parts[0].0, &parts[0].1), Ok(Accepted::New));
        assert_eq!(assembly.accept(&parts[0].0, &parts[0].1), Ok(Accepted::Double));
    }
}
