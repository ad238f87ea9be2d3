//! Envelopes made by hand, with whatever inside: what the SDK would never sign.

use strongroom_job::{Base64Bytes, SecretKey, Signature};

/// A signed envelope of any type and any payload.
pub fn envelope(payload_type: &str, payload: &[u8], key: &SecretKey) -> Vec<u8> {
    let mut signed = format!("DSSEv1 {} {payload_type} {} ", payload_type.len(), payload.len()).into_bytes();
    signed.extend_from_slice(payload);
    with_signatures(payload_type, payload, &[key.sign(&signed)])
}

/// An envelope with these signatures, whether they are any good or not.
pub fn with_signatures(payload_type: &str, payload: &[u8], signatures: &[Signature]) -> Vec<u8> {
    let base64 = |bytes: &[u8]| serde_json::to_value(Base64Bytes(bytes.to_vec())).expect("a string");
    let signatures: Vec<_> = signatures
        .iter()
        .map(|signature| serde_json::json!({ "keyid": "a hint", "sig": base64(signature.as_bytes()) }))
        .collect();
    let dsse = serde_json::json!({
        "payloadType": payload_type,
        "payload": base64(payload),
        "signatures": signatures,
    });
    serde_json::to_vec(&dsse).expect("plain data serializes")
}
