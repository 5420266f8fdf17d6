// kafkajs against a broker: `run BOOTSTRAP PREFIX`.
'use strict'

const { ConfigResourceTypes } = require('kafkajs')
const { Client } = require('./client')
const { register } = require('./codecs')
const { CODECS, FIRST_TIMESTAMP, rows, compare, partitionerFixture } = require('./dataset')
const { groups } = require('./groups')
const { transactions } = require('./transactions')
const { NotSupported, check, line, same, step, until } = require('./report')

const [mode, bootstrap, prefix] = process.argv.slice(2)
const client = new Client(bootstrap)
const { admin } = client
const topicOf = name => `${prefix}-${name}`
let readers = 0
// kafkajs reads in groups only: every read gets its own.
const ownGroup = () => topicOf(`reader-${readers++}`)

const listed = async topic => (await admin.listTopics()).includes(topic)
const partitions = async topic =>
  (await admin.fetchTopicMetadata({ topics: [topic] })).topics[0].partitions.length
const lacks = what => async () => {
  throw new NotSupported(`no ${what}`)
}

async function administration() {
  const topic = topicOf('admin')
  const resource = { type: ConfigResourceTypes.TOPIC, name: topic }
  await step('create-topic', () => client.create(topic, 3, { 'retention.ms': '86400000' }).then(() => ''))
  await step('list-topics', async () => check(await listed(topic), 'not in the list'))
  await step('describe-topic', async () => same('the partitions', 3, await partitions(topic)))
  await step('alter-configs', async () => {
    const configEntries = [{ name: 'retention.ms', value: '7200000' }]
    await admin.alterConfigs({ validateOnly: false, resources: [{ ...resource, configEntries }] })
  })
  await step('describe-configs', async () => {
    let value
    const done = async () => {
      const found = await admin.describeConfigs({ includeSynonyms: false, resources: [resource] })
      const entries = found.resources[0].configEntries
      value = entries.find(entry => entry.configName === 'retention.ms').configValue
      return value === '7200000'
    }
    await until(done, () => `retention.ms is ${value}`)
  })
  await step('add-partitions', async () => {
    await admin.createPartitions({ topicPartitions: [{ topic, count: 5 }] })
    await until(async () => (await partitions(topic)) === 5, () => 'not 5 partitions')
  })
  await step('delete-records', async () => {
    const ten = Array.from({ length: 10 }, (_, i) => ({ partition: 0, value: `${i}` }))
    await client.produce(topic, ten)
    await admin.deleteTopicRecords({ topic, partitions: [{ partition: 0, offset: '4' }] })
    const found = (await admin.fetchTopicOffsets(topic)).find(offsets => offsets.partition === 0)
    same('the bounds', ['4', '10'], [found.low, found.high])
  })
  await step('describe-cluster', async () =>
    same('the number of brokers', 1, (await admin.describeCluster()).brokers.length)
  )
  await step('describe-log-dirs', lacks('description of log directories'))
  await step('delete-topic', async () => {
    await admin.deleteTopics({ topics: [topic] })
    await until(async () => !(await listed(topic)), () => 'still listed')
  })
}

async function producing() {
  for (const codec of CODECS) {
    await step(`produce-${codec}`, async () => {
      const topic = topicOf(codec)
      await client.create(topic, 1)
      const [done] = await client.produce(topic, rows(), { codec })
      same('the first offset', '0', done.baseOffset)
    })
  }
  for (const [name, acks] of [['0', 0], ['1', 1], ['all', -1]]) {
    await step(`acks-${name}`, async () => {
      const topic = topicOf(`acks-${name}`)
      await client.create(topic, 1)
      const values = Array.from({ length: 20 }, (_, i) => `${i}`)
      await client.produce(topic, values.map(value => ({ partition: 0, value })), { acks })
      const found = await client.read(topic, ownGroup(), 20)
      same('the values', values, found.map(record => String(record.value)))
    })
  }
  await step('idempotent', async () => {
    const topic = topicOf('idempotent')
    await client.create(topic, 1)
    const producer = client.kafka.producer({ idempotent: true, maxInFlightRequests: 1 })
    await producer.connect()
    for (let i = 0; i < 20; i++) {
      const messages = Array.from({ length: 10 }, () => ({ partition: 0, value: `batch ${i}` }))
      const [done] = await producer.send({ topic, messages, acks: -1 })
      same('the offset', String(10 * i), done.baseOffset)
    }
    await producer.disconnect()
  })
  await step('partitioner', partitioner)
}

async function partitioner() {
  const topic = topicOf('partitioner')
  await client.create(topic, 7)
  const fixture = partitionerFixture(7)
  const messages = [...fixture.keys()].map(key => ({ key: Buffer.from(key, 'hex'), value: 'v' }))
  await client.produce(topic, messages)
  const found = await client.read(topic, ownGroup(), fixture.size)
  const equal = found.filter(record => fixture.get(record.key.toString('hex')) === record.partition).length
  return equal === fixture.size ? "as Java's murmur2" : `its own: ${equal} of ${fixture.size} keys as Java's`
}

async function consuming() {
  await step('consume', async () => {
    for (const codec of CODECS) compare(topicOf(codec), await client.read(topicOf(codec), ownGroup(), 7))
  })
  await step('consume-offset', async () => {
    // What is fetched before the seek takes effect comes too: wait for the offset itself.
    const found = await client.read(topicOf('none'), ownGroup(), 1, { offset: 3 })
    same('the first offset', '3', found[0].offset)
  })
  await step('offsets-for-times', async () => {
    const find = async after => (await admin.fetchTopicOffsetsByTimestamp(topicOf('gzip'), FIRST_TIMESTAMP + after))[0].offset
    same('the offset', '2', await find(1500))
    // kafkajs answers the end where the broker says that there is none.
    same('the offset after the end', '7', await find(7000))
  })
  await step('long-poll', async () => {
    const topic = topicOf('long-poll')
    await client.create(topic, 1)
    const reader = await client.consumer(topic, ownGroup(), { maxWaitTimeInMs: 10_000 })
    try {
      await until(() => reader.owned.length === 1, () => 'no partition')
      await new Promise(resolve => setTimeout(resolve, 500))
      const start = Date.now()
      await client.produce(topic, [{ partition: 0, value: 'wake up' }])
      await until(() => reader.records.length === 1, () => 'no record')
      check(Date.now() - start < 5000, `the record came only after ${Date.now() - start} ms`)
    } finally {
      await reader.consumer.disconnect()
    }
  })
  await step('incremental-fetch', async () => {
    const topic = topicOf('session')
    await client.create(topic, 4)
    const reader = await client.consumer(topic, ownGroup(), { maxWaitTimeInMs: 100 })
    try {
      for (let round = 0; round < 12; round++) {
        await client.produce(topic, [{ partition: round % 4, value: `round ${round}` }])
        await until(() => reader.records.length > round, () => `no record of round ${round}`)
        same('the value', `round ${round}`, String(reader.records[round].value))
      }
    } finally {
      await reader.consumer.disconnect()
    }
  })
}

// The error's type, which may be wrapped by retries or by the errors of several topics.
function typeOf(error) {
  for (let at = error; at; at = at.cause || at.originalError || (at.errors && at.errors[0])) {
    if (at.type) return at.type
  }
  return undefined
}

async function fails(name, type, call) {
  await step(name, async () => {
    try {
      await call()
    } catch (error) {
      same('the error', type, typeOf(error))
      return `${error.name}: ${error.message}`
    }
    throw new Error('it succeeded')
  })
}

async function errors() {
  const topic = topicOf('none')
  if (process.env.COMPAT_AUTO_CREATE === '1') {
    line('error-unknown-topic', null, 'the broker creates topics by itself')
  } else {
    const absent = topicOf('absent')
    await fails('error-unknown-topic', 'UNKNOWN_TOPIC_OR_PARTITION', () => client.produce(absent, [{ value: 'v' }]))
  }
  const big = [{ partition: 0, value: Buffer.alloc(2_000_000) }]
  await fails('error-too-large', 'MESSAGE_TOO_LARGE', () => client.produce(topic, big))
  await fails('error-invalid-topic', 'INVALID_TOPIC_EXCEPTION', () => client.create('not a topic!', 1))
  await step('error-topic-exists', async () => {
    // kafkajs turns this error into an answer.
    same('whether it was created', false, await client.create(topic, 1))
  })
  const bad = { 'retention.ms': 'soon' }
  await fails('error-invalid-config', 'INVALID_CONFIG', () => client.create(topicOf('bad'), 1, bad))
  await step('reset-earliest', async () => {
    // A group without a commit starts at the first record; then it is sent out of range.
    const reader = await client.consumer(topic, ownGroup())
    try {
      await until(() => reader.records.length === 7, () => `${reader.records.length} of 7 records came`)
      reader.consumer.seek({ topic, partition: 0, offset: '1000' })
      await until(() => reader.records.length === 14, () => `${reader.records.length} of 14 records came`)
      same('the first offset', '0', reader.records[7].offset)
    } finally {
      await reader.consumer.disconnect()
    }
  })
  await step('reset-latest', async () => {
    const latest = topicOf('latest')
    await client.create(latest, 1)
    await client.produce(latest, [{ partition: 0, value: 'before' }])
    const reader = await client.consumer(latest, ownGroup(), { fromBeginning: false, offset: 1000 })
    try {
      // The reset takes an unknown moment: write until something comes.
      const came = async () => {
        await client.produce(latest, [{ partition: 0, value: 'after' }])
        return reader.records.length > 0
      }
      await until(came, () => 'nothing came')
      same('the first value', 'after', String(reader.records[0].value))
    } finally {
      await reader.consumer.disconnect()
    }
  })
  await step('reset-none', lacks('consumer without a reset policy'))
}

async function main() {
  check(mode === 'run', 'usage: run BOOTSTRAP PREFIX')
  await register()
  await admin.connect()
  await administration()
  await producing()
  await consuming()
  await groups(client, prefix)
  await step('group-consumer-protocol', lacks('consumer protocol'))
  await transactions(client, prefix)
  await errors()
  await admin.disconnect()
  process.exit(0)
}

main().catch(error => {
  line('program', false, `${error.name}: ${error.message}`)
  process.exit(1)
})
