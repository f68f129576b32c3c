//! Frames that no honest session makes.

/// The number and the Olm message of a frame that says anything, of the session in this record.
pub fn hostile_payload(record: &mut Vec<u8>, plaintext: &[u8]) -> (u32, Vec<u8>) {
    use serde_cbor::Value;
    fn field(value: &mut Value, at: i128) -> &mut Value {
        let Value::Map(map) = value else { panic!("a packed record") };
        map.get_mut(&Value::Integer(at)).expect("a field")
    }
    let mut value: Value = serde_cbor::from_slice(&record[1..]).expect("CBOR behind the version");
    // `live`; in it `olm` is the first field and `next_frame` the sixth.
    let line = field(&mut value, 4);
    let Value::Bytes(at_rest) = field(line, 0) else { panic!("a session at rest") };
    let pickle: vodozemac::olm::SessionPickle = serde_cbor::from_slice(at_rest).expect("a pickle");
    let mut session = vodozemac::olm::Session::from_pickle(pickle);
    let (kind, body) = session.encrypt(plaintext).expect("a session that works").to_parts();
    *at_rest = serde_cbor::to_vec(&session.pickle()).expect("CBOR");
    let Value::Integer(next_frame) = field(line, 5) else { panic!("a number") };
    let frame_no = u32::try_from(*next_frame).expect("32 bits");
    *next_frame += 1;
    *record = [&record[..1], &serde_cbor::to_vec(&value).expect("CBOR")].concat();
    (frame_no, [&[u8::try_from(kind).expect("0 or 1")], body.as_slice()].concat())
}
