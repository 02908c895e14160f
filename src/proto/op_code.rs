//! Request types and how they are routed: the only routing table.

/// Request types a client may send (`ZooDefs.OpCode`).
#[derive(Clone, Copy, PartialEq, Eq, Debug, Hash)]
#[repr(i32)]
#[allow(missing_docs)]
pub enum OpCode {
    Create = 1,
    Delete = 2,
    Exists = 3,
    GetData = 4,
    SetData = 5,
    GetAcl = 6,
    SetAcl = 7,
    GetChildren = 8,
    Sync = 9,
    Ping = 11,
    GetChildren2 = 12,
    Check = 13,
    Multi = 14,
    Create2 = 15,
    Reconfig = 16,
    CheckWatches = 17,
    RemoveWatches = 18,
    CreateContainer = 19,
    DeleteContainer = 20,
    CreateTtl = 21,
    MultiRead = 22,
    Auth = 100,
    SetWatches = 101,
    Sasl = 102,
    GetEphemerals = 103,
    GetAllChildrenNumber = 104,
    SetWatches2 = 105,
    AddWatch = 106,
    WhoAmI = 107,
    CreateSession = -10,
    CloseSession = -11,
}

/// Where a request is answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OpClass {
    /// By the connection itself (auth, sasl), at once.
    Connection,
    /// By the shard, from the tree at its read zxid and its own watch tables.
    Read,
    /// By the replica as a transaction.
    Write,
    /// By the replica, in order with the writes, without a transaction (sync, getEphemerals).
    Ordered,
    /// Not allowed from a client on its own: -6, then the connection is closed.
    Refused,
}

impl OpCode {
    /// The request type with this number, if there is one.
    #[must_use]
    pub const fn from_i32(n: i32) -> Option<Self> {
        use OpCode::*;
        Some(match n {
            1 => Create,
            2 => Delete,
            3 => Exists,
            4 => GetData,
            5 => SetData,
            6 => GetAcl,
            7 => SetAcl,
            8 => GetChildren,
            9 => Sync,
            11 => Ping,
            12 => GetChildren2,
            13 => Check,
            14 => Multi,
            15 => Create2,
            16 => Reconfig,
            17 => CheckWatches,
            18 => RemoveWatches,
            19 => CreateContainer,
            20 => DeleteContainer,
            21 => CreateTtl,
            22 => MultiRead,
            100 => Auth,
            101 => SetWatches,
            102 => Sasl,
            103 => GetEphemerals,
            104 => GetAllChildrenNumber,
            105 => SetWatches2,
            106 => AddWatch,
            107 => WhoAmI,
            -10 => CreateSession,
            -11 => CloseSession,
            _ => return None,
        })
    }

    /// A server without a quorum refuses it, whatever it says (-119).
    #[must_use]
    pub const fn needs_quorum(self) -> bool {
        match self.class() {
            OpClass::Write => !matches!(self, OpCode::CloseSession),
            OpClass::Ordered => matches!(self, OpCode::Sync),
            OpClass::Connection | OpClass::Read | OpClass::Refused => false,
        }
    }

    /// Where it is answered.
    #[must_use]
    pub const fn class(self) -> OpClass {
        use OpCode::*;
        match self {
            Auth | Sasl => OpClass::Connection,
            Exists | GetData | GetAcl | GetChildren | GetChildren2 | Ping | CheckWatches | RemoveWatches | MultiRead | SetWatches
            | SetWatches2 | GetAllChildrenNumber | AddWatch | WhoAmI => OpClass::Read,
            Create | Delete | SetData | SetAcl | Multi | Create2 | Reconfig | CreateContainer | CreateTtl | CloseSession => OpClass::Write,
            Sync | GetEphemerals => OpClass::Ordered,
            Check | DeleteContainer | CreateSession => OpClass::Refused,
        }
    }
}
