// Transactions: committed, aborted, with offsets of a group, and two producers with one id.
'use strict'

const { same, step, until } = require('./report')

async function transactions(client, prefix) {
  const topic = `${prefix}-txn`
  const groupId = `${prefix}-txn-g`
  let readers = 0

  const withProducer = async run => {
    const settings = { transactionalId: `${prefix}-txn-id`, maxInFlightRequests: 1, idempotent: true }
    const producer = client.kafka.producer(settings)
    await producer.connect()
    try {
      return await run(producer)
    } finally {
      await producer.disconnect()
    }
  }
  const begun = async (producer, ...values) => {
    const transaction = await producer.transaction()
    const messages = values.map(value => ({ partition: 0, value }))
    await transaction.send({ topic, messages, acks: -1 })
    return transaction
  }
  // What a reader is given up to the last value.
  const shown = async (readUncommitted, ...expected) => {
    const reader = await client.consumer(topic, `${prefix}-txn-reader-${readers++}`, { readUncommitted })
    const values = () => reader.records.map(record => String(record.value))
    try {
      const last = expected[expected.length - 1]
      await until(() => values().includes(last), () => `only ${values()} came`)
      same('the values', expected, values())
    } finally {
      await reader.consumer.disconnect()
    }
  }
  const committed = async () => {
    const [found] = await client.admin.fetchOffsets({ groupId, topics: [topic] })
    return found.partitions[0].offset
  }
  const offsets = offset => ({
    consumerGroupId: groupId,
    topics: [{ topic, partitions: [{ partition: 0, offset }] }],
  })

  await step('txn-produce', async () => {
    await client.create(topic, 1)
    await withProducer(async producer => (await begun(producer, 'a', 'b', 'c')).commit())
    await shown(false, 'a', 'b', 'c')
  })
  await step('txn-abort', async () => {
    await withProducer(async producer => {
      await (await begun(producer, 'never')).abort()
      await (await begun(producer, 'after')).commit()
    })
    await shown(false, 'a', 'b', 'c', 'after')
    await shown(true, 'a', 'b', 'c', 'never', 'after')
  })
  await step('txn-offsets', async () => {
    await withProducer(async producer => {
      const first = await begun(producer, 'with offsets')
      await first.sendOffsets(offsets('3'))
      await first.commit()
      await until(async () => (await committed()) === '3', () => 'no offset is committed')
      const second = await begun(producer, 'never')
      await second.sendOffsets(offsets('5'))
      await second.abort()
    })
    same('the offset after an abort', '3', await committed())
  })
  await step('txn-fence', () =>
    withProducer(async one => {
      const first = await begun(one, 'fenced')
      await withProducer(async two => (await begun(two, 'last')).commit())
      let failure
      try {
        await first.commit()
      } catch (error) {
        failure = error
      }
      await shown(false, 'a', 'b', 'c', 'after', 'with offsets', 'last')
      if (!failure) throw new Error('the first producer committed')
      return failure.type || failure.name
    })
  )
}

module.exports = { transactions }
