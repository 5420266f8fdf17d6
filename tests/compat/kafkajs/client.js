// Shared handling of kafkajs: one admin, producers per call, consumers that keep what they read.
'use strict'

const { Kafka, logLevel } = require('kafkajs')
const { TYPES } = require('./codecs')
const { until } = require('./report')

class Client {
  constructor(bootstrap) {
    this.kafka = new Kafka({
      brokers: [bootstrap],
      logLevel: logLevel.NOTHING,
      retry: { retries: 3, initialRetryTime: 100 },
    })
    this.admin = this.kafka.admin()
  }

  async create(topic, numPartitions, configs = { 'retention.ms': '-1' }) {
    const configEntries = Object.entries(configs).map(([name, value]) => ({ name, value }))
    const topics = [{ topic, numPartitions, replicationFactor: 1, configEntries }]
    return this.admin.createTopics({ topics, waitForLeaders: true })
  }

  // Writes messages; answers the first offset of each partition.
  async produce(topic, messages, { codec = 'none', acks = -1, idempotent = false } = {}) {
    const producer = this.kafka.producer({
      idempotent,
      maxInFlightRequests: idempotent ? 1 : null,
      allowAutoTopicCreation: false,
    })
    await producer.connect()
    try {
      return await producer.send({ topic, messages, acks, compression: TYPES[codec] })
    } finally {
      await producer.disconnect()
    }
  }

  // A member of a group; with `offset` it starts there instead of at the commit.
  async consumer(topic, groupId, { offset, fromBeginning = true, maxWaitTimeInMs = 500, readUncommitted = true } = {}) {
    const consumer = this.kafka.consumer({
      groupId,
      maxWaitTimeInMs,
      readUncommitted,
      sessionTimeout: 10_000,
      heartbeatInterval: 500,
      retry: { retries: 3, initialRetryTime: 100 },
    })
    const reader = { consumer, records: [], owned: [], crash: null }
    consumer.on(consumer.events.GROUP_JOIN, ({ payload }) => {
      reader.owned = payload.memberAssignment[topic] || []
    })
    consumer.on(consumer.events.REBALANCING, () => {
      reader.owned = []
    })
    consumer.on(consumer.events.CRASH, ({ payload }) => {
      reader.crash = payload.error
    })
    await consumer.connect()
    await consumer.subscribe({ topics: [topic], fromBeginning })
    await consumer.run({
      autoCommit: false,
      eachMessage: async ({ partition, message }) => {
        reader.records.push({ partition, ...message })
      },
    })
    if (offset !== undefined) consumer.seek({ topic, partition: 0, offset: String(offset) })
    return reader
  }

  // Reads that many records of a topic with a consumer of its own, and ends it.
  async read(topic, groupId, count, options) {
    const reader = await this.consumer(topic, groupId, options)
    try {
      await until(
        () => reader.records.length >= count || reader.crash,
        () => `${reader.records.length} of ${count} records came`
      )
      if (reader.crash) throw reader.crash
      return reader.records.slice(0, count)
    } finally {
      await reader.consumer.disconnect()
    }
  }
}

module.exports = { Client }
