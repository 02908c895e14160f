//! The quorum port: packets of learners and leaders, one after the other without frames. A raw snapshot stream stands behind a SNAP packet.

use super::Decoded;
use crate::base::acl::AuthId;
use crate::base::limits::TXN_PAYLOAD_MAX;
use crate::base::{Auth, DecodeError, PeerId, Reader, SessionId, Writer, Xid, Zxid};
use crate::record::header::TXN_HEADER_BYTES;
use crate::zab::message::{ForwardedRequest, LearnerInfo, Packet, Payload};
use std::sync::Arc;

/// Who has sent a packet: some types mean different things both ways, and most go one way only.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Side {
    /// A leader, or whoever serves learners.
    Leader,
    /// A follower or observer.
    Learner,
}

/// Longest data of a packet where `jute.maxbuffer` is not configured: what a transaction may have, and room for the table of a ping. A
/// connection that announces more is closed.
pub const DATA_BYTES_MAX: usize = TXN_PAYLOAD_MAX + 1024 * 1024;
/// Longest list of a request's identities: a connection that announces a longer one is closed.
const IDENTITIES_BYTES_MAX: usize = 1024 * 1024;
/// Protocol version of a learner that does not tell one.
const PROTOCOL_VERSION_UNTOLD: i32 = 1;
/// Type, zxid and length of data.
const HEAD_BYTES: usize = 4 + 8 + 4;
/// Session and timeout in a ping.
const TOUCH_BYTES: usize = 8 + 4;
/// What packets without a zxid have in its place.
const NO_ZXID: i64 = -1;

const REQUEST: i32 = 1;
const PROPOSAL: i32 = 2;
const ACK: i32 = 3;
const COMMIT: i32 = 4;
const PING: i32 = 5;
const REVALIDATE: i32 = 6;
const SYNC: i32 = 7;
const INFORM: i32 = 8;
const COMMIT_AND_ACTIVATE: i32 = 9;
const NEW_LEADER: i32 = 10;
const FOLLOWER_INFO: i32 = 11;
const UP_TO_DATE: i32 = 12;
const DIFF: i32 = 13;
const TRUNC: i32 = 14;
const SNAP: i32 = 15;
const OBSERVER_INFO: i32 = 16;
const LEADER_INFO: i32 = 17;
const ACK_EPOCH: i32 = 18;
const INFORM_AND_ACTIVATE: i32 = 19;

/// The identities of the request that came last over a link: most come with the same ones, which are kept once then.
#[derive(Default)]
pub struct LastIdentities {
    bytes: Vec<u8>,
    auth: Arc<Auth>,
}

impl LastIdentities {
    fn of(&mut self, bytes: &[u8]) -> Result<Arc<Auth>, DecodeError> {
        if self.bytes != bytes {
            self.auth = Arc::new(decode_identities(bytes)?);
            self.bytes.clear();
            self.bytes.extend_from_slice(bytes);
        }
        Ok(self.auth.clone())
    }
}

/// Reads a packet from what has been received. Payloads are copied once, out of `bytes`. After an error the connection is of no use.
pub fn decode(bytes: &[u8], from: Side, data_max: usize) -> Result<Decoded<Packet>, DecodeError> {
    decode_next(bytes, from, data_max, &mut LastIdentities::default())
}

/// The same for the next packet of a link.
pub fn decode_next(bytes: &[u8], from: Side, data_max: usize, last: &mut LastIdentities) -> Result<Decoded<Packet>, DecodeError> {
    let mut r = Reader::new(bytes);
    let (Ok(kind), Ok(zxid), Ok(length)) = (r.i32(), r.i64(), r.i32()) else { return Ok(Decoded::Need(HEAD_BYTES)) };
    let data = match length {
        -1 => None,
        n => {
            let n = usize::try_from(n).ok().filter(|n| *n <= data_max).ok_or(DecodeError::BadLength(length))?;
            match r.take(n) {
                Ok(data) => Some(data),
                Err(_) => return Ok(Decoded::Need(HEAD_BYTES + n + 4)),
            }
        }
    };
    let identities = match take_identities(&mut r)? {
        Decoded::Whole { value, .. } => value,
        Decoded::Need(bytes) => return Ok(Decoded::Need(bytes)),
    };
    let zxid = Zxid::from_i64(zxid);
    let value = match from {
        Side::Learner => decode_from_learner(kind, zxid, data, identities, last),
        Side::Leader => decode_from_leader(kind, zxid, data),
    }?;
    Ok(Decoded::Whole { value, bytes: r.position() })
}

/// Appends a packet.
pub fn encode(packet: &Packet, from: Side, out: &mut Vec<u8>) {
    let payload_bytes = |payload: &Payload| Some(payload.len());
    let config_bytes = |config: &Option<Arc<str>>| config.as_ref().map(|text| text.len());
    let head = |kind: i32, zxid: Zxid, data: Option<usize>, out: &mut Vec<u8>| put_head(kind, zxid.as_i64(), data, out);
    match packet {
        Packet::Request(request) => return encode_request(request, out),
        Packet::Proposal { zxid, payload } => {
            head(PROPOSAL, *zxid, payload_bytes(payload), out);
            out.put_raw(payload);
        }
        Packet::Inform { zxid, payload } => {
            head(INFORM, *zxid, payload_bytes(payload), out);
            out.put_raw(payload);
        }
        Packet::InformAndActivate { zxid, leader, payload } => {
            head(INFORM_AND_ACTIVATE, *zxid, Some(8 + payload.len()), out);
            out.put_i64(leader.0);
            out.put_raw(payload);
        }
        Packet::CommitAndActivate { zxid, leader } => {
            head(COMMIT_AND_ACTIVATE, *zxid, Some(8), out);
            out.put_i64(leader.0);
        }
        Packet::Ack { zxid } => head(ACK, *zxid, None, out),
        Packet::Commit { zxid } => head(COMMIT, *zxid, None, out),
        Packet::Acks { first, last } => return first.through(*last).for_each(|zxid| encode(&Packet::Ack { zxid }, from, out)),
        Packet::Commits { first, last } => return first.through(*last).for_each(|zxid| encode(&Packet::Commit { zxid }, from, out)),
        Packet::Ping { zxid, touched } => encode_ping(*zxid, touched, from, out),
        Packet::Revalidate { session, timeout_ms } => {
            put_head(REVALIDATE, NO_ZXID, Some(8 + 4), out);
            out.put_i64(session.0);
            out.put_i32(*timeout_ms);
        }
        Packet::Revalidated { session, valid } => {
            put_head(REVALIDATE, NO_ZXID, Some(8 + 1), out);
            out.put_i64(session.0);
            out.put_bool(*valid);
        }
        Packet::Sync => head(SYNC, Zxid::ZERO, None, out),
        Packet::NewLeader { zxid, config } => {
            head(NEW_LEADER, *zxid, config_bytes(config), out);
            out.put_raw(config.as_deref().unwrap_or("").as_bytes());
        }
        Packet::FollowerInfo { zxid, info } => encode_info(FOLLOWER_INFO, *zxid, info, out),
        Packet::ObserverInfo { zxid, info } => encode_info(OBSERVER_INFO, *zxid, info, out),
        Packet::LeaderInfo { zxid, protocol_version } => {
            head(LEADER_INFO, *zxid, Some(4), out);
            out.put_i32(*protocol_version);
        }
        Packet::AckEpoch { zxid, current_epoch } => {
            head(ACK_EPOCH, *zxid, Some(4), out);
            out.put_i32(current_epoch.unwrap_or(-1));
        }
        Packet::UpToDate => put_head(UP_TO_DATE, NO_ZXID, None, out),
        Packet::Diff { zxid } => head(DIFF, *zxid, None, out),
        Packet::Trunc { zxid } => head(TRUNC, *zxid, None, out),
        Packet::Snap { zxid } => head(SNAP, *zxid, None, out),
    }
    put_identities(&Auth::default(), out);
}

fn decode_from_learner(
    kind: i32,
    zxid: Zxid,
    data: Option<&[u8]>,
    identities: &[u8],
    last: &mut LastIdentities,
) -> Result<Packet, DecodeError> {
    Ok(match kind {
        REQUEST => Packet::Request(decode_request(present(data)?, last.of(identities)?)?),
        ACK => Packet::Ack { zxid },
        PING => Packet::Ping { zxid, touched: decode_touched(data.unwrap_or_default())? },
        REVALIDATE => {
            let mut r = Reader::new(present(data)?);
            Packet::Revalidate { session: SessionId(r.i64()?), timeout_ms: r.i32()? }
        }
        FOLLOWER_INFO => Packet::FollowerInfo { zxid, info: decode_info(data)? },
        OBSERVER_INFO => Packet::ObserverInfo { zxid, info: decode_info(data)? },
        ACK_EPOCH => {
            let epoch = Reader::new(present(data)?).i32()?;
            Packet::AckEpoch { zxid, current_epoch: (epoch != -1).then_some(epoch) }
        }
        other => return Err(DecodeError::BadValue("packet type from a learner", other.into())),
    })
}

fn decode_from_leader(kind: i32, zxid: Zxid, data: Option<&[u8]>) -> Result<Packet, DecodeError> {
    Ok(match kind {
        PROPOSAL => Packet::Proposal { zxid, payload: decode_payload(present(data)?)? },
        COMMIT => Packet::Commit { zxid },
        PING => Packet::Ping { zxid, touched: Vec::new() },
        REVALIDATE => {
            let mut r = Reader::new(present(data)?);
            Packet::Revalidated { session: SessionId(r.i64()?), valid: r.bool()? }
        }
        SYNC => Packet::Sync,
        INFORM => Packet::Inform { zxid, payload: decode_payload(present(data)?)? },
        COMMIT_AND_ACTIVATE => Packet::CommitAndActivate { zxid, leader: PeerId(Reader::new(present(data)?).i64()?) },
        NEW_LEADER => {
            let text = data.map(std::str::from_utf8).transpose().map_err(|_| DecodeError::NotUtf8)?;
            Packet::NewLeader { zxid, config: text.map(Arc::from) }
        }
        UP_TO_DATE => Packet::UpToDate,
        DIFF => Packet::Diff { zxid },
        TRUNC => Packet::Trunc { zxid },
        SNAP => Packet::Snap { zxid },
        LEADER_INFO => Packet::LeaderInfo { zxid, protocol_version: Reader::new(present(data)?).i32()? },
        INFORM_AND_ACTIVATE => {
            let mut r = Reader::new(present(data)?);
            Packet::InformAndActivate { zxid, leader: PeerId(r.i64()?), payload: decode_payload(r.remaining())? }
        }
        other => return Err(DecodeError::BadValue("packet type from a leader", other.into())),
    })
}

fn present(data: Option<&[u8]>) -> Result<&[u8], DecodeError> {
    data.ok_or(DecodeError::Null)
}

fn decode_payload(bytes: &[u8]) -> Result<Payload, DecodeError> {
    if bytes.len() < TXN_HEADER_BYTES { Err(DecodeError::Truncated) } else { Ok(Arc::from(bytes)) }
}

fn decode_request(data: &[u8], auth: Arc<Auth>) -> Result<ForwardedRequest, DecodeError> {
    let mut r = Reader::new(data);
    let (session, cxid, op) = (SessionId(r.i64()?), Xid(r.i32()?), r.i32()?);
    Ok(ForwardedRequest { session, cxid, op, body: r.remaining().into(), auth })
}

fn encode_request(request: &ForwardedRequest, out: &mut Vec<u8>) {
    let ForwardedRequest { session, cxid, op, body, auth } = request;
    put_head(REQUEST, NO_ZXID, Some(8 + 4 + 4 + body.len()), out);
    out.put_i64(session.0);
    out.put_i32(cxid.0);
    out.put_i32(*op);
    out.put_raw(body);
    put_identities(auth, out);
}

fn decode_touched(data: &[u8]) -> Result<Vec<(SessionId, i32)>, DecodeError> {
    if !data.len().is_multiple_of(TOUCH_BYTES) {
        return Err(DecodeError::Truncated);
    }
    let touch = |entry: &[u8]| {
        let mut r = Reader::new(entry);
        Ok((SessionId(r.i64()?), r.i32()?))
    };
    data.chunks_exact(TOUCH_BYTES).map(touch).collect()
}

/// A leader's ping has no data; a learner's has a table, which may be empty.
fn encode_ping(zxid: Zxid, touched: &[(SessionId, i32)], from: Side, out: &mut Vec<u8>) {
    match from {
        Side::Leader => put_head(PING, zxid.as_i64(), None, out),
        Side::Learner => put_head(PING, zxid.as_i64(), Some(touched.len() * TOUCH_BYTES), out),
    }
    if from == Side::Learner {
        for (session, timeout_ms) in touched {
            out.put_i64(session.0);
            out.put_i32(*timeout_ms);
        }
    }
}

/// Older learners tell less.
fn decode_info(data: Option<&[u8]>) -> Result<LearnerInfo, DecodeError> {
    let mut info = LearnerInfo { id: None, protocol_version: PROTOCOL_VERSION_UNTOLD, config_version: 0 };
    let Some(data) = data else { return Ok(info) };
    let mut r = Reader::new(data);
    info.id = Some(PeerId(r.i64()?));
    if let Ok(version) = r.i32() {
        info.protocol_version = version;
        info.config_version = r.i64().unwrap_or(0);
    }
    Ok(info)
}

fn encode_info(kind: i32, zxid: Zxid, info: &LearnerInfo, out: &mut Vec<u8>) {
    let Some(id) = info.id else { return put_head(kind, zxid.as_i64(), None, out) };
    put_head(kind, zxid.as_i64(), Some(8 + 4 + 8), out);
    out.put_i64(id.0);
    out.put_i32(info.protocol_version);
    out.put_i64(info.config_version);
}

fn put_head(kind: i32, zxid: i64, data: Option<usize>, out: &mut Vec<u8>) {
    out.put_i32(kind);
    out.put_i64(zxid);
    match data {
        Some(bytes) => out.put_len(bytes),
        None => out.put_i32(-1),
    }
}

/// Splits off the list of identities, still encoded.
fn take_identities<'a>(r: &mut Reader<'a>) -> Result<Decoded<&'a [u8]>, DecodeError> {
    let start = r.position();
    let Ok(count) = r.i32() else { return Ok(Decoded::Need(start + 4)) };
    if count > (IDENTITIES_BYTES_MAX / 8) as i32 {
        return Err(DecodeError::BadLength(count));
    }
    for _ in 0..2 * count.max(0) {
        let at = r.position();
        let Ok(length) = r.i32() else { return Ok(Decoded::Need(at + 4)) };
        let bytes = if length == -1 { 0 } else { usize::try_from(length).map_err(|_| DecodeError::BadLength(length))? };
        if at + 4 + bytes - start > IDENTITIES_BYTES_MAX {
            return Err(DecodeError::BadLength(length));
        }
        if r.take(bytes).is_err() {
            return Ok(Decoded::Need(at + 4 + bytes));
        }
    }
    Ok(Decoded::Whole { value: r.since(start), bytes: r.position() - start })
}

fn decode_identities(bytes: &[u8]) -> Result<Auth, DecodeError> {
    let mut r = Reader::new(bytes);
    let count = r.count(8)?.unwrap_or(0);
    let text = |r: &mut Reader<'_>| r.opt_string().map(|text| text.unwrap_or("").to_owned());
    let ids = (0..count).map(|_| Ok(AuthId { scheme: text(&mut r)?, id: text(&mut r)? })).collect::<Result<_, DecodeError>>()?;
    Ok(Auth { ids })
}

/// No identities are written as null, as Java servers do in everything but requests of clients.
fn put_identities(auth: &Auth, out: &mut Vec<u8>) {
    if auth.ids.is_empty() {
        return out.put_i32(-1);
    }
    out.put_len(auth.ids.len());
    for AuthId { scheme, id } in &auth.ids {
        out.put_string(scheme);
        out.put_string(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DATA_MAX: usize = 4096;

    fn payload() -> impl Strategy<Value = Payload> {
        prop::collection::vec(any::<u8>(), TXN_HEADER_BYTES..80).prop_map(Arc::from)
    }

    fn zxid() -> impl Strategy<Value = Zxid> {
        any::<u64>().prop_map(Zxid)
    }

    fn info() -> impl Strategy<Value = LearnerInfo> {
        let told = any::<(i64, i32, i64)>().prop_map(|(id, protocol_version, config_version)| LearnerInfo {
            id: Some(PeerId(id)),
            protocol_version,
            config_version,
        });
        prop_oneof![told, Just(LearnerInfo { id: None, protocol_version: PROTOCOL_VERSION_UNTOLD, config_version: 0 })]
    }

    fn request() -> impl Strategy<Value = Packet> {
        let auth = prop::collection::vec(("[a-z]{0,5}", "\\PC{0,5}"), 0..3);
        (any::<(i64, i32, i32)>(), prop::collection::vec(any::<u8>(), 0..40), auth).prop_map(|((session, cxid, op), body, auth)| {
            let ids = auth.into_iter().map(|(scheme, id)| AuthId { scheme, id }).collect();
            let (session, cxid) = (SessionId(session), Xid(cxid));
            Packet::Request(ForwardedRequest { session, cxid, op, body: body.into(), auth: Auth { ids }.into() })
        })
    }

    fn of_learner() -> impl Strategy<Value = Packet> {
        let touched = prop::collection::vec(any::<(i64, i32)>().prop_map(|(id, ms)| (SessionId(id), ms)), 0..4);
        prop_oneof![
            request(),
            zxid().prop_map(|zxid| Packet::Ack { zxid }),
            (zxid(), touched).prop_map(|(zxid, touched)| Packet::Ping { zxid, touched }),
            any::<(i64, i32)>().prop_map(|(id, timeout_ms)| Packet::Revalidate { session: SessionId(id), timeout_ms }),
            (zxid(), info()).prop_map(|(zxid, info)| Packet::FollowerInfo { zxid, info }),
            (zxid(), info()).prop_map(|(zxid, info)| Packet::ObserverInfo { zxid, info }),
            (zxid(), prop::option::of(0..i32::MAX)).prop_map(|(zxid, current_epoch)| Packet::AckEpoch { zxid, current_epoch }),
        ]
    }

    fn of_leader() -> impl Strategy<Value = Packet> {
        let bare = (zxid(), 0..6).prop_map(|(zxid, kind)| match kind {
            0 => Packet::Commit { zxid },
            1 => Packet::Ping { zxid, touched: Vec::new() },
            2 => Packet::Diff { zxid },
            3 => Packet::Trunc { zxid },
            4 => Packet::Snap { zxid },
            _ => Packet::Sync,
        });
        let config = prop::option::of("[a-z.=:\n]{0,30}").prop_map(|text| text.map(Arc::from));
        prop_oneof![
            bare,
            Just(Packet::UpToDate),
            (zxid(), payload()).prop_map(|(zxid, payload)| Packet::Proposal { zxid, payload }),
            (zxid(), payload()).prop_map(|(zxid, payload)| Packet::Inform { zxid, payload }),
            (zxid(), any::<i64>(), payload()).prop_map(|(zxid, id, payload)| Packet::InformAndActivate {
                zxid,
                leader: PeerId(id),
                payload
            }),
            (zxid(), any::<i64>()).prop_map(|(zxid, id)| Packet::CommitAndActivate { zxid, leader: PeerId(id) }),
            any::<(i64, bool)>().prop_map(|(id, valid)| Packet::Revalidated { session: SessionId(id), valid }),
            (zxid(), config).prop_map(|(zxid, config)| Packet::NewLeader { zxid, config }),
            (zxid(), any::<i32>()).prop_map(|(zxid, protocol_version)| Packet::LeaderInfo { zxid, protocol_version }),
        ]
    }

    fn packet() -> impl Strategy<Value = (Packet, Side)> {
        prop_oneof![of_learner().prop_map(|p| (p, Side::Learner)), of_leader().prop_map(|p| (p, Side::Leader))]
    }

    proptest! {
        #[test]
        fn what_is_encoded_comes_back_however_it_is_cut((packet, side) in packet(), behind in prop::collection::vec(any::<u8>(), 0..9)) {
            let mut bytes = Vec::new();
            encode(&packet, side, &mut bytes);
            let length = bytes.len();
            for cut in 0..length {
                match decode(&bytes[..cut], side, DATA_MAX) {
                    Ok(Decoded::Need(need)) => prop_assert!(need > cut && need <= length, "{cut} {need} {length}"),
                    other => prop_assert!(false, "{other:?} of {cut} bytes of {length}"),
                }
            }
            bytes.extend(behind);
            prop_assert_eq!(decode(&bytes, side, DATA_MAX), Ok(Decoded::Whole { value: packet, bytes: length }));
        }
    }

    proptest! {
        #[test]
        fn each_request_of_a_link_has_the_identities_it_came_with(packets in prop::collection::vec(request(), 0..12), bad in any::<bool>()) {
            let mut last = LastIdentities::default();
            for packet in packets {
                let mut bytes = Vec::new();
                encode(&packet, Side::Learner, &mut bytes);
                let decoded = decode_next(&bytes, Side::Learner, DATA_MAX, &mut last);
                prop_assert_eq!(decoded, Ok(Decoded::Whole { value: packet, bytes: bytes.len() }));
                if bad {
                    prop_assert!(last.of(&[0, 0, 0, 1, 0, 0, 0, 1, 0xff, 0xff, 0xff, 0xff, 0xff]).is_err(), "a scheme that is no text");
                }
            }
        }
    }

    #[test]
    fn a_run_is_written_as_one_packet_for_each() {
        let (first, last) = (Zxid::new(2, 5), Zxid::new(2, 7));
        let bytes = |packets: &[Packet], side| {
            let mut out = Vec::new();
            packets.iter().for_each(|packet| encode(packet, side, &mut out));
            out
        };
        let acks: Vec<_> = first.through(last).map(|zxid| Packet::Ack { zxid }).collect();
        let commits: Vec<_> = first.through(last).map(|zxid| Packet::Commit { zxid }).collect();
        assert_eq!((acks.len(), commits.len()), (3, 3));
        assert_eq!(bytes(&[Packet::acks(first, last)], Side::Learner), bytes(&acks, Side::Learner));
        assert_eq!(bytes(&[Packet::commits(first, last)], Side::Leader), bytes(&commits, Side::Leader));
    }

    fn raw(kind: i32, data: Option<&[u8]>, count: i32) -> Vec<u8> {
        let mut out = Vec::new();
        put_head(kind, 5, data.map(<[u8]>::len), &mut out);
        out.put_raw(data.unwrap_or_default());
        out.put_i32(count);
        out
    }

    fn decoded(kind: i32, data: Option<&[u8]>, from: Side) -> Result<Packet, DecodeError> {
        let bytes = raw(kind, data, -1);
        decode(&bytes, from, DATA_MAX).map(|decoded| decoded.whole(bytes.len()))
    }

    #[test]
    fn a_learner_may_tell_little_about_itself() {
        let info = |id, protocol_version, config_version| {
            Ok(Packet::FollowerInfo { zxid: Zxid(5), info: LearnerInfo { id, protocol_version, config_version } })
        };
        let data: Vec<u8> = [7i64.to_be_bytes().as_slice(), &0x10000i32.to_be_bytes(), &9i64.to_be_bytes()].concat();
        let told = |bytes: Option<usize>| decoded(FOLLOWER_INFO, bytes.map(|n| &data[..n]), Side::Learner);
        assert_eq!(told(Some(20)), info(Some(PeerId(7)), 0x10000, 9));
        assert_eq!(told(Some(12)), info(Some(PeerId(7)), 0x10000, 0));
        assert_eq!(told(Some(8)), info(Some(PeerId(7)), 1, 0));
        assert_eq!(told(None), info(None, 1, 0));
        assert_eq!(told(Some(7)), Err(DecodeError::Truncated));
    }

    #[test]
    fn a_packet_that_its_sender_may_not_send_is_refused() {
        let zeros = Some(&[0; 64][..]);
        let accepted =
            |from| (-1..30).filter(|kind| !matches!(decoded(*kind, zeros, from), Err(DecodeError::BadValue(..)))).collect::<Vec<_>>();
        assert_eq!(accepted(Side::Learner), [REQUEST, ACK, PING, REVALIDATE, FOLLOWER_INFO, OBSERVER_INFO, ACK_EPOCH]);
        let leaders =
            [PROPOSAL, COMMIT, PING, REVALIDATE, SYNC, INFORM, COMMIT_AND_ACTIVATE, NEW_LEADER, UP_TO_DATE, DIFF, TRUNC, SNAP, LEADER_INFO];
        assert_eq!(accepted(Side::Leader), [&leaders[..], &[INFORM_AND_ACTIVATE]].concat());
    }

    #[test]
    fn missing_and_short_data_are_errors() {
        for kind in [REQUEST, REVALIDATE, ACK_EPOCH] {
            assert_eq!(decoded(kind, None, Side::Learner), Err(DecodeError::Null), "{kind}");
            assert_eq!(decoded(kind, Some(&[0; 3]), Side::Learner), Err(DecodeError::Truncated), "{kind}");
        }
        for kind in [PROPOSAL, INFORM, INFORM_AND_ACTIVATE, COMMIT_AND_ACTIVATE, LEADER_INFO, REVALIDATE] {
            assert_eq!(decoded(kind, None, Side::Leader), Err(DecodeError::Null), "{kind}");
            assert_eq!(decoded(kind, Some(&[0; 3]), Side::Leader), Err(DecodeError::Truncated), "{kind}");
        }
        assert_eq!(decoded(PING, Some(&[0; 13]), Side::Learner), Err(DecodeError::Truncated));
        assert_eq!(decoded(NEW_LEADER, Some(b"\xff"), Side::Leader), Err(DecodeError::NotUtf8));
    }

    #[test]
    fn lengths_are_judged_before_anything_is_kept() {
        let mut long = Vec::new();
        put_head(PROPOSAL, 1, Some(DATA_MAX + 1), &mut long);
        assert_eq!(decode(&long, Side::Leader, DATA_MAX), Err(DecodeError::BadLength(DATA_MAX as i32 + 1)));
        assert_eq!(decode(&long, Side::Leader, DATA_MAX + 1), Ok(Decoded::Need(HEAD_BYTES + DATA_MAX + 1 + 4)));
        for count in [i32::MAX, (IDENTITIES_BYTES_MAX / 8) as i32 + 1] {
            assert_eq!(decode(&raw(ACK, None, count), Side::Learner, DATA_MAX), Err(DecodeError::BadLength(count)));
        }
        let mut identity = raw(ACK, None, 1);
        identity.put_i32(IDENTITIES_BYTES_MAX as i32);
        assert_eq!(decode(&identity, Side::Learner, DATA_MAX), Err(DecodeError::BadLength(IDENTITIES_BYTES_MAX as i32)));
        let none = decode(&raw(ACK, None, -7), Side::Learner, DATA_MAX);
        assert_eq!(
            none,
            Ok(Decoded::Whole { value: Packet::Ack { zxid: Zxid(5) }, bytes: HEAD_BYTES + 4 }),
            "a negative count reads as none"
        );
    }
}
