//! Reads all there is of a database through a client, and compares it with the model.

use zeo_client::{Client, LoadError, Oid, Record, Tid, TransactionHead};

use crate::model::Model;
use crate::party::answer;

/// Compares every object at every tid, every history, and all counts.
pub(crate) async fn compare(client: &Client, model: &Model, objects: u64) {
    answer(client.nb().sync()).await.unwrap();
    assert_eq!(client.last_tid(), model.last_tid());
    for oid in (0..objects).map(Oid::new) {
        for before in model.tids().chain([Tid::MAX]) {
            let found = answer(client.nb().load_before(oid, before)).await;
            let found = found.map(|it| (it.tid, it.data, it.end));
            assert_eq!(found, expected(model, oid, before), "{oid} before {before}");
        }
        assert_eq!(history_of(client, oid).await, model.history_of(oid), "{oid}");
    }
    for before in model.tids().step_by(7).chain([Tid::MAX]) {
        assert_eq!(objects_of(client, before).await, model.objects(before), "before {before}");
    }
    let size = answer(client.nb().size()).await.unwrap();
    assert_eq!(size.objects, model.objects(Tid::MAX).len() as u64);
    let history = history(client).await.into_iter();
    let told: Vec<_> = history
        .map(|(head, records)| {
            assert_eq!(head.records as usize, records.len());
            (head.tid, head.meta.description, records)
        })
        .collect();
    assert_eq!(told, model.history());
}

fn expected(
    model: &Model,
    oid: Oid,
    before: Tid,
) -> Result<(Tid, bytes::Bytes, Option<Tid>), LoadError> {
    let (tid, state, end) = model.at(oid, before).ok_or(LoadError::NotFound(oid))?;
    let data = state.data.clone().ok_or(LoadError::Deleted { oid, tid })?;
    Ok((tid, data, end))
}

/// All transactions with their records.
pub(crate) async fn history(client: &Client) -> Vec<(TransactionHead, Vec<Record>)> {
    let (mut all, mut next) = (Vec::new(), Some(Tid::ZERO));
    while let Some(from) = next {
        let page = answer(client.nb().transactions_page(from..)).await.unwrap();
        for txn in page.transactions {
            let (mut records, mut rest) = (txn.records, txn.rest);
            while let Some(from) = rest {
                let page = answer(client.nb().records_page(from)).await.unwrap();
                records.extend(page.records);
                rest = page.next;
            }
            all.push((txn.head, records));
        }
        next = page.next;
    }
    all
}

async fn history_of(client: &Client, oid: Oid) -> Vec<zeo_client::HistoryEntry> {
    let (mut all, mut before) = (Vec::new(), Tid::MAX);
    loop {
        let page = answer(client.nb().history_page(oid, before)).await.unwrap();
        let Some(last) = page.last() else { return all };
        before = last.tid;
        all.extend(page);
    }
}

async fn objects_of(client: &Client, before: Tid) -> Vec<(Oid, Tid)> {
    let (mut all, mut next) = (Vec::new(), Some(Oid::ROOT));
    while let Some(from) = next {
        let page = answer(client.nb().objects_page(from, before)).await.unwrap();
        all.extend(page.objects);
        next = page.next;
    }
    all
}
