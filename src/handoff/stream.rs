//! The published stream: one writer, many readers, each at its own position; nodes are freed when all have passed. INTERFACE.
use std::sync::Arc;
/// The writing end.
pub struct Publisher<T> { _t: std::marker::PhantomData<T> }
/// One reader's position.
pub struct Subscriber<T> { _t: std::marker::PhantomData<T> }
impl<T> Publisher<T> {
    pub fn new() -> Self { unimplemented!() }
    /// A reader that sees everything published from now on.
    pub fn subscribe(&self) -> Subscriber<T> { unimplemented!() }
    pub fn publish(&mut self, item: T) { unimplemented!() }
}
impl<T> Subscriber<T> {
    /// The next item, if there is one; the position does not move.
    pub fn peek(&self) -> Option<Arc<T>> { unimplemented!() }
    /// Moves past the item `peek` returned.
    pub fn advance(&mut self) { unimplemented!() }
}
