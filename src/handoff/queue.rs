//! A bounded many-producer inbox with one wake-up per burst. INTERFACE.
use crossbeam::queue::ArrayQueue;
/// Bounded inbox of one executor. Push a whole burst, then `kick` once.
pub struct Inbox<T> { q: ArrayQueue<T> }
impl<T> Inbox<T> {
    pub fn new(capacity: usize) -> Self { Inbox { q: ArrayQueue::new(capacity) } }
    /// Any thread. `Err` gives the item back when full: back-pressure, never block a reactor.
    pub fn push(&self, item: T) -> Result<(), T> { self.q.push(item) }
    /// Any thread: wakes the owner if it is parked.
    pub fn kick(&self) { unimplemented!() }
    /// Owner: moves at most `max` items to `out`, returns how many.
    pub fn drain(&self, out: &mut Vec<T>, max: usize) -> usize { unimplemented!() }
    /// Owner: ready when something is queued; arms the wake-up before the second look.
    pub async fn ready(&self) { unimplemented!() }
    pub fn len(&self) -> usize { self.q.len() }
    pub fn capacity(&self) -> usize { self.q.capacity() }
}
