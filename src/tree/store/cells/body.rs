//! A body: one version of one znode, immutable but for its link to the version before, in one allocation.
//!
//! Layout: the header below, then (only where the stored owner differs from the one clients see) 8 bytes of owner, the path, and the
//! data; data beyond [`INLINE_DATA_MAX`] is in a shared buffer to which 8 bytes point, so that a child create under a node with big
//! data does not copy it. Everything that can be derived is not stored: data length and number of children are in the Stat, and of
//! the stored cversion only its top bit is kept, the rest follows from the wire value (wire = 2 × stored − children).

use super::super::sync::{AtomicPtr, Canary, MODEL};
use super::super::{CellId, NodeMeta, PATH_BYTES_MAX};
use super::children::ChildSet;
use crate::base::stat::STAT_WIRE_BYTES;
use crate::base::{AclList, StatWire};
use std::alloc::{Layout, alloc, dealloc, handle_alloc_error};
use std::mem::offset_of;
use std::ptr::{self, NonNull};
use std::sync::Arc;

/// Data up to this length is inside the body.
pub(super) const INLINE_DATA_MAX: usize = 1024;

const TOMBSTONE: u32 = 1;
const NULL_DATA: u32 = 2;
/// The data is in a shared buffer.
const SHARED_DATA: u32 = 4;
/// The stored owner is in the tail.
const OWN_OWNER: u32 = 8;
/// Top bit of the stored cversion.
const CVERSION_TOP: u32 = 16;
const FLAG_BITS: u32 = 5;
const _: () = assert!(PATH_BYTES_MAX < 1 << (32 - FLAG_BITS));

const OWNER_BYTES: usize = 8;
const POINTER_BYTES: usize = size_of::<*const u8>();

#[repr(C)]
pub(super) struct Body {
    /// The version before. Written by the writer only, also after publication: it unlinks versions no reader can select.
    pub(super) prev: AtomicPtr<Body>,
    /// zxid that made this version.
    pub(super) stamp: u64,
    /// `None` in tombstones.
    acl: Option<Arc<AclList>>,
    children: ChildSet,
    stat: [u8; STAT_WIRE_BYTES],
    cell: u32,
    /// Path length above the flags.
    length_flags: u32,
    canary: Canary,
    tail: [u8; 0],
}

const HEADER_BYTES: usize = offset_of!(Body, tail);
const _: () = assert!(HEADER_BYTES <= 108 || MODEL);

/// What a new body is made of.
pub(super) struct Draft<'a> {
    pub(super) prev: *mut Body,
    pub(super) stamp: u64,
    pub(super) cell: CellId,
    pub(super) path: &'a str,
    /// `None` makes a tombstone.
    pub(super) node: Option<Node<'a>>,
}

/// The part of a draft that a tombstone does not have.
pub(super) struct Node<'a> {
    pub(super) meta: &'a NodeMeta,
    pub(super) data: Data<'a>,
    pub(super) acl: Arc<AclList>,
    pub(super) children: ChildSet,
}

/// Data on its way into a body.
pub(super) enum Data<'a> {
    Null,
    Inline(&'a [u8]),
    Shared(Arc<[u8]>),
}

impl<'a> Data<'a> {
    pub(super) fn new(data: Option<&'a [u8]>) -> Self {
        match data {
            None => Data::Null,
            Some(bytes) if bytes.len() <= INLINE_DATA_MAX => Data::Inline(bytes),
            Some(bytes) => Data::Shared(Arc::from(bytes)),
        }
    }
    fn len(&self) -> usize {
        match self {
            Data::Null => 0,
            Data::Inline(bytes) => bytes.len(),
            Data::Shared(bytes) => bytes.len(),
        }
    }
    fn flags(&self) -> u32 {
        match self {
            Data::Null => NULL_DATA,
            Data::Inline(_) => 0,
            Data::Shared(_) => SHARED_DATA,
        }
    }
    fn tail_bytes(&self) -> usize {
        match self {
            Data::Null => 0,
            Data::Inline(bytes) => bytes.len(),
            Data::Shared(_) => POINTER_BYTES,
        }
    }
}

/// Allocates and fills a body that nobody else knows yet.
pub(super) fn allocate(draft: Draft<'_>) -> NonNull<Body> {
    let path = draft.path.as_bytes();
    assert!(path.len() <= PATH_BYTES_MAX, "path too long");
    let (flags, stat, owner, data, acl, children) = match draft.node {
        None => (TOMBSTONE | NULL_DATA, StatWire::default(), None, Data::Null, None, ChildSet::default()),
        Some(node) => {
            let meta = node.meta;
            let owner = (meta.owner != meta.wire_owner).then_some(meta.owner);
            let mut flags = node.data.flags();
            flags |= if owner.is_some() { OWN_OWNER } else { 0 };
            flags |= if meta.cversion < 0 { CVERSION_TOP } else { 0 };
            (flags, wire_stat(meta, node.data.len(), node.children.len()), owner, node.data, Some(node.acl), node.children)
        }
    };
    let owner_bytes = if owner.is_some() { OWNER_BYTES } else { 0 };
    let layout = layout(owner_bytes + path.len() + data.tail_bytes());
    #[cfg(test)]
    live::add(1);
    // SAFETY: the layout is not empty; a null pointer is handled. The header is written whole before anything else (its padding may
    // overlap the tail), then each part of the tail within the size just computed from the same lengths.
    unsafe {
        let Some(body) = NonNull::new(alloc(layout).cast::<Body>()) else { handle_alloc_error(layout) };
        body.write(Body {
            prev: AtomicPtr::new(draft.prev),
            stamp: draft.stamp,
            acl,
            children,
            stat: zerocopy::transmute!(stat),
            cell: draft.cell.0,
            length_flags: ((path.len() as u32) << FLAG_BITS) | flags,
            canary: Canary::new(),
            tail: [],
        });
        let mut at = body.as_ptr().cast::<u8>().add(HEADER_BYTES);
        if let Some(owner) = owner {
            at.cast::<i64>().write_unaligned(owner);
            at = at.add(OWNER_BYTES);
        }
        ptr::copy_nonoverlapping(path.as_ptr(), at, path.len());
        at = at.add(path.len());
        match data {
            Data::Null => {}
            Data::Inline(bytes) => ptr::copy_nonoverlapping(bytes.as_ptr(), at, bytes.len()),
            Data::Shared(bytes) => at.cast::<*const u8>().write_unaligned(Arc::into_raw(bytes).cast::<u8>()),
        }
        body
    }
}

/// Frees a body.
///
/// # Safety
/// Nobody can reach or hold it any more, and it was not freed before.
pub(super) unsafe fn free(body: NonNull<Body>) {
    #[cfg(test)]
    live::add(-1);
    // SAFETY: by the contract the body is valid and ours alone. The length of the tail is computed from what `allocate` stored; the
    // shared buffer's reference was given up by `Arc::into_raw` there and is taken back once.
    unsafe {
        body.as_ref().canary.free();
        if MODEL {
            return;
        }
        let size = body.as_ref().tail_bytes();
        if let Some(shared) = BodyRef(body).shared_data() {
            drop(Arc::from_raw(shared));
        }
        ptr::drop_in_place(body.as_ptr());
        dealloc(body.as_ptr().cast::<u8>(), layout(size));
    }
}

/// Takes the set of children out of a body.
///
/// # Safety
/// Only the caller can reach the body, and it uses nothing that is borrowed from it meanwhile.
pub(super) unsafe fn take_children(body: NonNull<Body>) -> ChildSet {
    // SAFETY: by the contract.
    unsafe { std::mem::take(&mut (*body.as_ptr()).children) }
}

/// A body that may be read: a pointer rather than a reference, because the tail lies beyond the header's type.
#[derive(Clone, Copy)]
pub(super) struct BodyRef(NonNull<Body>);

impl BodyRef {
    /// # Safety
    /// The body must stay allocated for as long as this value and anything borrowed from it are used.
    pub(super) unsafe fn new(body: NonNull<Body>) -> Self {
        BodyRef(body)
    }
    pub(super) fn pointer(self) -> NonNull<Body> {
        self.0
    }
    pub(super) fn header(&self) -> &Body {
        // SAFETY: allocated, by the contract of `new`; only `prev` ever changes, and it is atomic.
        let header = unsafe { self.0.as_ref() };
        header.canary.look();
        header
    }
    pub(super) fn stamp(&self) -> u64 {
        self.header().stamp
    }
    pub(super) fn cell(&self) -> CellId {
        CellId(self.header().cell)
    }
    pub(super) fn is_tombstone(&self) -> bool {
        self.header().has(TOMBSTONE)
    }
    pub(super) fn path(&self) -> &str {
        let header = self.header();
        // SAFETY: `allocate` copied that many bytes of a `str` to that place.
        unsafe { str::from_utf8_unchecked(std::slice::from_raw_parts(self.tail(header.path_start()), header.path_len())) }
    }
    pub(super) fn stat(&self) -> &StatWire {
        zerocopy::transmute_ref!(&self.header().stat)
    }
    pub(super) fn meta(&self) -> NodeMeta {
        let header = self.header();
        let stat = self.stat();
        let twice = (stat.cversion.get() as u32).wrapping_add(stat.num_children.get() as u32);
        let top = if header.has(CVERSION_TOP) { 1 << 31 } else { 0 };
        let wire_owner = stat.ephemeral_owner.get();
        NodeMeta {
            czxid: stat.czxid.get(),
            mzxid: stat.mzxid.get(),
            ctime: stat.ctime.get(),
            mtime: stat.mtime.get(),
            version: stat.version.get(),
            cversion: ((twice >> 1) | top) as i32,
            aversion: stat.aversion.get(),
            // SAFETY: with this flag `allocate` put the owner at the start of the tail.
            owner: if header.has(OWN_OWNER) { unsafe { self.tail(0).cast::<i64>().read_unaligned() } } else { wire_owner },
            wire_owner,
            pzxid: stat.pzxid.get(),
        }
    }
    pub(super) fn data(&self) -> Option<&[u8]> {
        let header = self.header();
        if header.has(NULL_DATA) {
            return None;
        }
        if let Some(shared) = self.shared_data() {
            // SAFETY: the body owns one reference to the buffer, so it lives as long as the body.
            return Some(unsafe { &*shared });
        }
        // SAFETY: `allocate` copied that many bytes to that place.
        Some(unsafe { std::slice::from_raw_parts(self.tail(header.data_start()), header.data_len()) })
    }
    /// The data as a draft takes it: a big buffer is shared, not copied.
    pub(super) fn data_again(&self) -> Data<'_> {
        match self.shared_data() {
            None => self.data().map_or(Data::Null, Data::Inline),
            Some(shared) => {
                // SAFETY: `shared` came from `Arc::into_raw` and the body's reference is still there; the count is raised first, so
                // taking one `Arc` back leaves the body's own.
                unsafe {
                    Arc::increment_strong_count(shared);
                    Data::Shared(Arc::from_raw(shared))
                }
            }
        }
    }
    pub(super) fn acl(&self) -> Option<&Arc<AclList>> {
        self.header().acl.as_ref()
    }
    pub(super) fn children(&self) -> &ChildSet {
        &self.header().children
    }
    /// What this body adds to the store's size as clients are told it: path and data.
    pub(super) fn counted_bytes(&self) -> u64 {
        (self.header().path_len() + self.header().data_len()) as u64
    }

    fn shared_data(&self) -> Option<*const [u8]> {
        let header = self.header();
        header.has(SHARED_DATA).then(|| {
            // SAFETY: with this flag `allocate` put the buffer's address there; its length is in the Stat.
            let address = unsafe { self.tail(header.data_start()).cast::<*const u8>().read_unaligned() };
            ptr::slice_from_raw_parts(address, header.data_len())
        })
    }
    /// # Safety
    /// `offset` is within the tail.
    unsafe fn tail(&self, offset: usize) -> *const u8 {
        // SAFETY: as the caller promises; derived from the pointer that came from the allocator, not from a header reference.
        unsafe { self.0.as_ptr().cast::<u8>().add(HEADER_BYTES + offset).cast_const() }
    }
}

impl Body {
    fn has(&self, flag: u32) -> bool {
        self.length_flags & flag != 0
    }
    fn path_len(&self) -> usize {
        (self.length_flags >> FLAG_BITS) as usize
    }
    fn path_start(&self) -> usize {
        if self.has(OWN_OWNER) { OWNER_BYTES } else { 0 }
    }
    fn data_start(&self) -> usize {
        self.path_start() + self.path_len()
    }
    fn data_len(&self) -> usize {
        let stat: &StatWire = zerocopy::transmute_ref!(&self.stat);
        stat.data_length.get() as usize
    }
    fn tail_bytes(&self) -> usize {
        self.data_start() + if self.has(SHARED_DATA) { POINTER_BYTES } else { self.data_len() }
    }
}

fn wire_stat(meta: &NodeMeta, data_len: usize, children: usize) -> StatWire {
    let data_length = i32::try_from(data_len).expect("data fits a frame");
    let num_children = i32::try_from(children).expect("children fit the count clients see");
    StatWire {
        czxid: meta.czxid.into(),
        mzxid: meta.mzxid.into(),
        ctime: meta.ctime.into(),
        mtime: meta.mtime.into(),
        version: meta.version.into(),
        cversion: meta.cversion.wrapping_mul(2).wrapping_sub(num_children).into(),
        aversion: meta.aversion.into(),
        ephemeral_owner: meta.wire_owner.into(),
        data_length: data_length.into(),
        num_children: num_children.into(),
        pzxid: meta.pzxid.into(),
    }
}

fn layout(tail_bytes: usize) -> Layout {
    let size = (HEADER_BYTES + tail_bytes).max(size_of::<Body>());
    Layout::from_size_align(size, align_of::<Body>()).expect("a body's size is bounded by path and data limits")
}

/// Bodies allocated minus bodies freed on this thread, for tests that look for leaks.
#[cfg(test)]
pub(super) mod live {
    use std::cell::Cell;

    thread_local! {
        static LIVE: Cell<isize> = const { Cell::new(0) };
    }
    pub(super) fn add(count: isize) {
        LIVE.set(LIVE.get() + count);
    }
    pub(in super::super) fn get() -> isize {
        LIVE.get()
    }
}
