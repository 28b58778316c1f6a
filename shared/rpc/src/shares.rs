//! What many share, of which one must not take all: places, bytes, connections. Must never count what has been given
//! back, nor let one holder have more than its share.

use std::{
    collections::HashMap,
    hash::Hash,
    net::{IpAddr, Ipv6Addr},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

/// Bits of an IPv6 address that stand for one site (RFC 6177): whoever has one address has all of its site.
const SITE_BITS: u32 = 64;

/// So much for all, and so much of it for one holder. Clones share it.
#[derive(Debug, Clone)]
pub struct Shares<K>(Arc<Shared<K>>);

#[derive(Debug)]
struct Shared<K> {
    most: usize,
    most_of_one: usize,
    taken: Mutex<Taken<K>>,
}

/// A holder has an entry while it has anything.
#[derive(Debug)]
struct Taken<K> {
    all: usize,
    own: HashMap<K, usize>,
}

/// Why there is no more, and how much may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Full {
    /// The holder has this much, all that one may.
    One(usize),
    /// All together have this much.
    All(usize),
}

/// What a holder took, until this is dropped.
#[derive(Debug)]
pub struct Share<K: Hash + Eq> {
    shares: Arc<Shared<K>>,
    holder: K,
    count: usize,
}

impl<K: Hash + Eq + Clone> Shares<K> {
    /// So much for all, and so much of it for one.
    pub fn new(most: usize, most_of_one: usize) -> Self {
        let taken = Mutex::new(Taken { all: 0, own: HashMap::new() });
        Self(Arc::new(Shared { most, most_of_one, taken }))
    }

    /// So much for a holder, or nothing.
    pub fn take(&self, holder: K, count: usize) -> Result<Share<K>, Full> {
        let mut share = Share { shares: Arc::clone(&self.0), holder, count: 0 };
        share.grow(count)?;
        Ok(share)
    }
}

impl<K: Hash + Eq + Clone> Share<K> {
    /// So much more; without room for it the share stays as it is.
    pub fn grow(&mut self, more: usize) -> Result<(), Full> {
        let Shared { most, most_of_one, .. } = *self.shares;
        let mut taken = self.shares.taken();
        let own = taken.own.get(&self.holder).copied().unwrap_or(0);
        if more > most_of_one.saturating_sub(own) {
            return Err(Full::One(most_of_one));
        }
        if more > most.saturating_sub(taken.all) {
            return Err(Full::All(most));
        }
        if more > 0 {
            taken.all += more;
            *taken.own.entry(self.holder.clone()).or_default() += more;
            drop(taken);
            self.count += more;
        }
        Ok(())
    }
}

impl<K> Shared<K> {
    fn taken(&self) -> MutexGuard<'_, Taken<K>> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<K: Hash + Eq> Drop for Share<K> {
    fn drop(&mut self) {
        if self.count == 0 {
            return;
        }
        let mut taken = self.shares.taken();
        taken.all -= self.count;
        if let Some(own) = taken.own.get_mut(&self.holder) {
            *own -= self.count;
            if *own == 0 {
                taken.own.remove(&self.holder);
            }
        }
    }
}

/// The address, or the one that stands for all of its site: what counts as one holder.
pub fn site(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => {
            let bits = u128::from(address) & (u128::MAX << (128 - SITE_BITS));
            IpAddr::V6(Ipv6Addr::from(bits))
        }
        address @ IpAddr::V4(_) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_counted_by_holder_and_in_all_and_given_back() {
        let shares = Shares::new(3, 2);
        let full = |holder| shares.take(holder, 1).unwrap_err();
        let (first, _second) = (shares.take("a", 1).unwrap(), shares.take("a", 1).unwrap());
        assert_eq!(full("a"), Full::One(2));
        let third = shares.take("b", 1).unwrap();
        assert_eq!((full("a"), full("c")), (Full::One(2), Full::All(3)));
        drop(first);
        drop(third);
        let _places = (shares.take("a", 1).unwrap(), shares.take("c", 1).unwrap());
        assert_eq!(full("b"), Full::All(3));
    }

    #[test]
    fn a_share_grows_as_far_as_it_may_and_all_of_it_is_given_back() {
        let shares = Shares::new(100, 60);
        let mut one = shares.take("a", 0).unwrap();
        one.grow(60).unwrap();
        assert_eq!(one.grow(1), Err(Full::One(60)));
        let mut other = shares.take("b", 10).unwrap();
        assert_eq!(other.grow(31), Err(Full::All(100)));
        other.grow(30).unwrap();
        drop(one);
        assert!(shares.take("a", 61).is_err() && shares.take("c", 60).is_ok());
        drop(other);
        assert!(shares.0.taken().own.is_empty() && shares.0.taken().all == 0);
    }

    #[test]
    fn a_site_is_one_holder_by_any_of_its_addresses() {
        let of = |address: &str| site(address.parse().unwrap());
        assert_eq!(of("::ffff:192.0.2.1"), of("192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
