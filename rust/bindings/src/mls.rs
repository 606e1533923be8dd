//! MLS groups for Python: bytes and small tuples; no type of the library, no secret but in records.

use std::sync::{Mutex, MutexGuard, PoisonError};

use peertap_dataplane::vlan_keys;
use peertap_mls::credential::{self, Credential};
use peertap_mls::error::Error;
use peertap_mls::group::{self, Order, Received, Wish};
use peertap_mls::member;
use peertap_mls::suite::Suite;
use pyo3::create_exception;
use pyo3::exceptions::{PyException, PyValueError};
use pyo3::prelude::*;
use pyo3::types::PyBytes;
use zeroize::Zeroizing;

use crate::arguments::{Int, bytes, to_python};
use crate::keys::VlanKeys;

create_exception!(_core, MlsError, PyException, "A message, record or credential was refused; nothing has changed.");

fn error(error: Error) -> PyErr {
    match error {
        Error::Argument(text) => PyValueError::new_err(text),
        Error::Refused(text) => MlsError::new_err(text),
    }
}

/// What an identity signs to make a credential (SPEC 9.2).
#[pyfunction]
pub fn mls_credential_message<'py>(
    py: Python<'py>,
    vlan_id: &[u8],
    identity: &[u8],
    suite: Int<u16>,
    not_after: Int<u64>,
    key: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let suite = Suite::from_id(suite.0).map_err(error)?;
    let message = credential::signed_message(
        &bytes("vlan_id", vlan_id)?,
        &bytes("identity", identity)?,
        suite,
        not_after.0,
        &bytes::<32>("key", key)?,
    );
    Ok(PyBytes::new(py, &message))
}

/// Epoch and transcript hash that a GroupInfo speaks of; None: it is none.
#[pyfunction]
pub fn mls_group_info_position<'py>(py: Python<'py>, group_info: &[u8]) -> Option<(u64, Bound<'py, PyBytes>)> {
    group::info_position(group_info).map(|(epoch, hash)| (epoch, PyBytes::new(py, &hash)))
}

/// Identity and MLS signature key of whoever made a key package; None: it is none. Neither is looked at.
#[pyfunction]
pub fn mls_key_package_owner<'py>(
    py: Python<'py>,
    package: &[u8],
) -> Option<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    group::package_owner(package).map(|(who, key)| (PyBytes::new(py, &who), PyBytes::new(py, &key)))
}

/// The epoch that an MLS message was made in; None for one that belongs to none, or is no MLS message.
#[pyfunction]
pub fn mls_message_epoch(message: &[u8]) -> Option<u64> {
    group::message_epoch(message)
}

/// HPKE (RFC 9180), base mode, with the suite's algorithms: encapsulated key and ciphertext.
#[pyfunction]
pub fn mls_hpke_seal<'py>(
    py: Python<'py>,
    suite: Int<u16>,
    public: &[u8],
    info: &[u8],
    aad: &[u8],
    plaintext: &[u8],
) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
    let suite = Suite::from_id(suite.0).map_err(error)?;
    let (encapsulated, ciphertext) = suite.hpke_seal(public, info, aad, plaintext).map_err(error)?;
    Ok((PyBytes::new(py, &encapsulated), PyBytes::new(py, &ciphertext)))
}

/// The plaintext; `seed` is the keying material of the receiver's key pair.
#[pyfunction]
pub fn mls_hpke_open<'py>(
    py: Python<'py>,
    suite: Int<u16>,
    seed: &[u8],
    encapsulated: &[u8],
    info: &[u8],
    aad: &[u8],
    ciphertext: &[u8],
) -> PyResult<Bound<'py, PyBytes>> {
    let suite = Suite::from_id(suite.0).map_err(error)?;
    let plaintext = suite.hpke_open(seed, encapsulated, info, aad, ciphertext).map_err(error)?;
    Ok(PyBytes::new(py, &plaintext))
}

/// A new MLS signature key of one VLAN.
#[pyclass(frozen, module = "peertap._core")]
pub struct MlsSigner(member::SignerKey);

#[pymethods]
impl MlsSigner {
    #[new]
    fn new(suite: Int<u16>) -> PyResult<Self> {
        let suite = Suite::from_id(suite.0).map_err(error)?;
        member::SignerKey::generate(suite).map(Self).map_err(error)
    }

    #[getter]
    fn public<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, self.0.public())
    }
}

/// A leaf of a group's tree.
#[pyclass(frozen, get_all, module = "peertap._core")]
pub struct MlsLeaf {
    index: u32,
    identity: Py<PyBytes>,
    key: Py<PyBytes>,
    not_after: u64,
}

impl MlsLeaf {
    fn of(py: Python<'_>, leaf: &group::Leaf) -> Self {
        Self {
            index: leaf.index,
            identity: PyBytes::new(py, &leaf.credential.identity).unbind(),
            key: PyBytes::new(py, &leaf.key).unbind(),
            not_after: leaf.credential.not_after,
        }
    }
}

/// What a commit of another member changed.
#[pyclass(frozen, get_all, module = "peertap._core")]
pub struct MlsChange {
    committer: Option<Py<MlsLeaf>>,
    is_external: bool,
    added: Vec<Py<MlsLeaf>>,
    removed: Vec<Py<MlsLeaf>>,
    removed_us: bool,
}

/// A wish of a member, to be taken up by the next commit.
#[pyclass(frozen, get_all, module = "peertap._core")]
pub struct MlsProposal {
    sender: u32,
    wish: &'static str,
    word: Py<PyBytes>,
}

/// Us in one VLAN, with a credential.
#[pyclass(frozen, module = "peertap._core")]
pub struct MlsMember(member::Member);

#[pymethods]
impl MlsMember {
    #[new]
    fn new(signer: &MlsSigner, vlan_id: &[u8], credential: &[u8]) -> PyResult<Self> {
        let credential = Credential::parse_untrusted(credential)
            .ok_or_else(|| PyValueError::new_err("a credential has 104 bytes (SPEC 9.2)"))?;
        member::Member::new(&signer.0, bytes("vlan_id", vlan_id)?, credential).map(Self).map_err(error)
    }

    fn key_package<'py>(&self, py: Python<'py>, now: Int<u64>) -> PyResult<Bound<'py, PyBytes>> {
        let package = py.detach(|| self.0.key_package(now.0)).map_err(error)?;
        Ok(PyBytes::new(py, &package))
    }

    fn create(&self, py: Python<'_>, context: &[u8], now: Int<u64>) -> PyResult<MlsGroup> {
        py.detach(|| self.0.create(context, now.0)).map(MlsGroup::new).map_err(error)
    }

    fn join(&self, py: Python<'_>, welcome: &[u8], now: Int<u64>) -> PyResult<MlsGroup> {
        py.detach(|| self.0.join(welcome, now.0)).map(MlsGroup::new).map_err(error)
    }
}

/// A group that we are in. Steps are tentative until `keep`.
#[pyclass(frozen, module = "peertap._core")]
pub struct MlsGroup(Mutex<group::Group>);

impl MlsGroup {
    fn new(group: group::Group) -> Self {
        Self(Mutex::new(group))
    }

    fn lock(&self) -> MutexGuard<'_, group::Group> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[pymethods]
impl MlsGroup {
    #[staticmethod]
    fn restore(py: Python<'_>, record: &[u8]) -> PyResult<Self> {
        let record = Zeroizing::new(record.to_vec());
        py.detach(|| member::Member::restore(&record)).map(Self::new).map_err(error)
    }

    #[getter]
    fn suite(&self) -> u16 {
        self.lock().suite()
    }

    #[getter]
    fn vlan_id<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.lock().vlan_id())
    }

    #[getter]
    fn epoch(&self) -> u64 {
        self.lock().epoch()
    }

    #[getter]
    fn own_index(&self) -> u32 {
        self.lock().own_index()
    }

    #[getter]
    fn context<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.lock().context())
    }

    #[getter]
    fn transcript_hash<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.lock().transcript_hash())
    }

    #[getter]
    fn leaves(&self, py: Python<'_>) -> Vec<MlsLeaf> {
        self.lock().leaves().iter().map(|leaf| MlsLeaf::of(py, leaf)).collect()
    }

    /// The VLAN's keys in this epoch.
    fn keys(&self, routing: &[u8]) -> PyResult<VlanKeys> {
        let group = self.lock();
        let routing = Zeroizing::new(bytes("routing", routing)?);
        let keys = vlan_keys::VlanKeys::new(group.vlan_id(), group.root().clone(), routing).map_err(to_python)?;
        Ok(VlanKeys(keys.into()))
    }

    #[pyo3(signature = (now, *, adds = Vec::new(), removes = Vec::new(), context = None))]
    fn commit<'py>(
        &self,
        py: Python<'py>,
        now: Int<u64>,
        adds: Vec<Vec<u8>>,
        removes: Vec<Int<u32>>,
        context: Option<Vec<u8>>,
    ) -> PyResult<(Bound<'py, PyBytes>, Bound<'py, PyBytes>)> {
        let order = Order { adds, removes: removes.into_iter().map(|index| index.0).collect(), context };
        let commit = py.detach(|| self.lock().commit(&order, now.0)).map_err(error)?;
        Ok((PyBytes::new(py, &commit.message), PyBytes::new(py, &commit.welcome)))
    }

    fn forget_wishes(&self) {
        self.lock().forget_wishes();
    }

    fn propose_update<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let message = py.detach(|| self.lock().propose_update()).map_err(error)?;
        Ok(PyBytes::new(py, &message))
    }

    fn propose_leave<'py>(&self, py: Python<'py>, word: &[u8]) -> PyResult<Bound<'py, PyBytes>> {
        let message = py.detach(|| self.lock().propose_leave(word)).map_err(error)?;
        Ok(PyBytes::new(py, &message))
    }

    fn group_info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let message = py.detach(|| self.lock().group_info()).map_err(error)?;
        Ok(PyBytes::new(py, &message))
    }

    fn rejoin_secrets<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.lock().rejoin_secrets())
    }

    fn take_rejoin_secrets(&self, secrets: &[u8]) -> PyResult<()> {
        self.lock().take_rejoin_secrets(secrets).map_err(error)
    }

    fn process<'py>(&self, py: Python<'py>, message: &[u8], now: Int<u64>) -> PyResult<Bound<'py, PyAny>> {
        let received = py.detach(|| self.lock().process(message, now.0)).map_err(error)?;
        let leaf = |leaf: &group::Leaf| Py::new(py, MlsLeaf::of(py, leaf));
        let leaves = |all: &[group::Leaf]| all.iter().map(leaf).collect::<PyResult<Vec<_>>>();
        Ok(match received {
            Received::Proposal(sender, wish, word) => {
                let wish = match wish {
                    Wish::Update => "update",
                    Wish::Leave => "leave",
                };
                Bound::new(py, MlsProposal { sender, wish, word: PyBytes::new(py, &word).unbind() })?.into_any()
            }
            Received::Commit(change) => {
                let change = MlsChange {
                    committer: change.committer.as_ref().map(leaf).transpose()?,
                    is_external: change.is_external,
                    added: leaves(&change.added)?,
                    removed: leaves(&change.removed)?,
                    removed_us: change.removed_us,
                };
                Bound::new(py, change)?.into_any()
            }
        })
    }

    fn rejoin<'py>(
        &self,
        py: Python<'py>,
        group_info: &[u8],
        shared: Int<u64>,
        now: Int<u64>,
    ) -> PyResult<(Self, Bound<'py, PyBytes>)> {
        let (group, commit) =
            py.detach(|| member::Member::rejoin(group_info, &self.lock(), shared.0, now.0)).map_err(error)?;
        Ok((Self::new(group), PyBytes::new(py, &commit)))
    }

    fn keep<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyBytes>> {
        let record = py.detach(|| self.lock().keep()).map_err(error)?;
        Ok(PyBytes::new(py, &record))
    }

    fn drop_step(&self, py: Python<'_>) -> PyResult<()> {
        py.detach(|| self.lock().drop_step()).map_err(error)
    }
}
