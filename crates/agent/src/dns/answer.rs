//! Messages of DNS (RFC 1035): what is answered to one, or that it is for the servers beyond. Pure.

use std::net::IpAddr;

use simple_dns::rdata::{A, AAAA, CNAME, RData};
use simple_dns::{CLASS, Name, Packet, PacketFlag, QCLASS, QTYPE, Question, RCODE, ResourceRecord, TYPE};

use super::names::{Found, Names};

/// How long clients may keep an answer, in seconds; Istio's.
const TTL: u32 = 30;
/// What a client without EDNS takes over UDP, in bytes.
const PLAIN: usize = 512;
/// Most that is sent over UDP, whatever the client takes: more would be cut into pieces on the way.
const MAX_UDP: usize = 1232;

/// What becomes of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// This is answered.
    Here(Vec<u8>),
    /// The servers beyond are asked.
    Beyond,
    /// It is none; nobody is answered.
    Nothing,
}

/// How a message came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Way {
    /// In a packet.
    Udp,
    /// In a connection.
    Tcp,
}

/// What is answered to a message.
#[must_use]
pub fn answer(message: &[u8], names: &Names, way: Way) -> Answer {
    let Ok(asked) = Packet::parse(message) else {
        return Answer::Nothing;
    };
    let [question] = asked.questions.as_slice() else {
        return Answer::Beyond;
    };
    if asked.has_flags(PacketFlag::RESPONSE) {
        return Answer::Nothing;
    }
    let is_internet = matches!(question.qclass, QCLASS::CLASS(CLASS::IN) | QCLASS::ANY);
    if !is_internet {
        return Answer::Beyond;
    }
    let name = question.qname.to_string();
    let (owner, addresses) = match names.find(&name) {
        Found::Elsewhere => return Answer::Beyond,
        Found::Here(addresses) => (None, addresses),
        Found::Alias(host, addresses) => (Some(host), addresses),
    };
    match reply(&asked, question, owner.as_deref(), &addresses, way) {
        Ok(bytes) => Answer::Here(bytes),
        Err(_) => Answer::Beyond,
    }
}

/// Names of the mesh have addresses alone; to all other questions about them there is no answer, and that is one.
fn reply(
    asked: &Packet<'_>,
    question: &Question<'_>,
    alias: Option<&str>,
    addresses: &[IpAddr],
    way: Way,
) -> Result<Vec<u8>, simple_dns::SimpleDnsError> {
    let mut reply = head(asked, question);
    let mut owner = question.qname.clone();
    if let Some(alias) = alias {
        let target = Name::new(alias)?;
        reply
            .answers
            .push(record(owner, RData::CNAME(CNAME(target.clone()))));
        owner = target;
    }
    for address in addresses
        .iter()
        .filter(|address| is_wanted(question.qtype, **address))
    {
        let data = match address {
            IpAddr::V4(v4) => RData::A(A::from(*v4)),
            IpAddr::V6(v6) => RData::AAAA(AAAA::from(*v6)),
        };
        reply.answers.push(record(owner.clone(), data));
    }
    let bytes = reply.build_bytes_vec_compressed()?;
    if way == Way::Tcp || bytes.len() <= room(asked) {
        return Ok(bytes);
    }
    // The client asks again, over TCP.
    let mut cut = head(asked, question);
    cut.set_flags(PacketFlag::TRUNCATION);
    cut.build_bytes_vec_compressed()
}

fn head<'a>(asked: &Packet<'a>, question: &Question<'a>) -> Packet<'a> {
    let mut reply = Packet::new_reply(asked.id());
    reply.set_flags(PacketFlag::AUTHORITATIVE_ANSWER | PacketFlag::RECURSION_AVAILABLE);
    if asked.has_flags(PacketFlag::RECURSION_DESIRED) {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    reply.questions.push(question.clone());
    reply
}

fn record<'a>(name: Name<'a>, data: RData<'a>) -> ResourceRecord<'a> {
    ResourceRecord::new(name, CLASS::IN, TTL, data)
}

fn is_wanted(kind: QTYPE, address: IpAddr) -> bool {
    match kind {
        QTYPE::TYPE(TYPE::A) => address.is_ipv4(),
        QTYPE::TYPE(TYPE::AAAA) => address.is_ipv6(),
        QTYPE::ANY => true,
        _ => false,
    }
}

/// What the client takes over UDP.
fn room(asked: &Packet<'_>) -> usize {
    let told = asked.opt().map_or(PLAIN, |opt| usize::from(opt.udp_packet_size));
    told.clamp(PLAIN, MAX_UDP)
}

/// The answer when nobody can say: the client tries its next server, or again.
#[must_use]
pub fn failure(message: &[u8]) -> Option<Vec<u8>> {
    let asked = Packet::parse(message).ok()?;
    let mut reply = Packet::new_reply(asked.id());
    *reply.rcode_mut() = RCODE::ServerFailure;
    reply.questions = asked.questions.clone();
    reply.build_bytes_vec_compressed().ok()
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::super::names::tests::{names, table};
    use super::*;

    fn question(name: &str, kind: TYPE) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        let name = Name::new(name).unwrap().into_owned();
        let question = Question::new(name, QTYPE::TYPE(kind), QCLASS::CLASS(CLASS::IN), false);
        packet.questions.push(question);
        packet.build_bytes_vec().unwrap()
    }

    /// The answers as texts; none for what is for others.
    fn texts(name: &str, kind: TYPE) -> Option<Vec<String>> {
        let Answer::Here(bytes) = answer(&question(name, kind), &names(), Way::Udp) else {
            return None;
        };
        let reply = Packet::parse(&bytes).unwrap();
        assert_eq!((reply.id(), reply.rcode()), (7, RCODE::NoError));
        let texts = reply.answers.iter().map(|record| match &record.rdata {
            RData::A(a) => format!("{} A {}", record.name, Ipv4Addr::from(a.address)),
            RData::AAAA(_) => format!("{} AAAA", record.name),
            RData::CNAME(name) => format!("{} CNAME {}", record.name, name.0),
            other => format!("{other:?}"),
        });
        Some(texts.collect())
    }

    #[test]
    fn names_of_the_mesh_are_answered_and_others_are_not() {
        let check = |name: &str, kind, expected: Option<&[&str]>| {
            let expected = expected.map(|lines| lines.iter().map(|line| (*line).to_owned()).collect());
            assert_eq!(texts(name, kind), expected, "{name} {kind:?}");
        };
        check("web", TYPE::A, Some(&["web A 10.0.0.1"]));
        check("web", TYPE::AAAA, Some(&[]));
        check("web", TYPE::MX, Some(&[]));
        check("api.example", TYPE::AAAA, Some(&["api.example AAAA"]));
        let alias = "api.example.shop.svc.cluster.local";
        let expected = [
            format!("{alias} CNAME api.example"),
            "api.example A 240.240.0.1".to_owned(),
        ];
        check(alias, TYPE::A, Some(&[&expected[0], &expected[1]]));
        check("other.example", TYPE::A, None);
    }

    #[test]
    fn what_is_too_long_for_a_packet_is_cut_and_whole_in_a_connection() {
        let addresses: Vec<String> = (0..100).map(|n| format!("10.0.0.{n}")).collect();
        let addresses: Vec<&str> = addresses.iter().map(String::as_str).collect();
        let names = Names::new(&table(&[("many", &addresses)]), &[]);
        let asked = question("many", TYPE::A);
        let count = |way| match answer(&asked, &names, way) {
            Answer::Here(bytes) => {
                let reply = Packet::parse(&bytes).unwrap();
                (reply.answers.len(), reply.has_flags(PacketFlag::TRUNCATION))
            }
            other => panic!("{other:?}"),
        };
        assert_eq!(count(Way::Udp), (0, true));
        assert_eq!(count(Way::Tcp), (100, false));
    }

    #[test]
    fn what_is_no_question_is_not_answered() {
        assert_eq!(answer(b"", &names(), Way::Udp), Answer::Nothing);
        assert_eq!(answer(&[0xff; 40], &names(), Way::Udp), Answer::Nothing);
        let Answer::Here(reply) = answer(&question("web", TYPE::A), &names(), Way::Udp) else {
            panic!("not answered")
        };
        assert_eq!(answer(&reply, &names(), Way::Udp), Answer::Nothing);
        let failed = failure(&question("x.example", TYPE::A)).unwrap();
        assert_eq!(Packet::parse(&failed).unwrap().rcode(), RCODE::ServerFailure);
    }
}
