// A subscribed group of two: joining, leaving, committing, its lag, its end.
'use strict'

const { check, same, step, until } = require('./report')

const PARTITIONS = 4

async function groups(client, prefix) {
  const topic = `${prefix}-group`
  const group = `${prefix}-g`
  const { admin } = client
  let members = []
  const produce = count =>
    client.produce(
      topic,
      Array.from({ length: PARTITIONS * count }, (_, i) => ({ partition: i % PARTITIONS, value: `${i}` }))
    )
  const sizes = () => members.map(member => member.owned.length)
  const awaitSizes = expected =>
    until(
      () => JSON.stringify(sizes()) === JSON.stringify(expected),
      () => `partitions per member: ${sizes()}, expected ${expected}`
    )
  const listed = async () => (await admin.listGroups()).groups.some(found => found.groupId === group)

  await step('group-join', async () => {
    await client.create(topic, PARTITIONS)
    await produce(10)
    members.push(await client.consumer(topic, group))
    await awaitSizes([4])
    members.push(await client.consumer(topic, group))
    await awaitSizes([2, 2])
    same('the partitions assigned', [0, 1, 2, 3], members.flatMap(member => member.owned).sort())
  })
  await step('group-leave', async () => {
    check(members.length === 2, 'no second member')
    await members.pop().consumer.disconnect()
    await awaitSizes([4])
  })
  await step('group-commit', async () => {
    check(members.length === 1, 'no member')
    const [member] = members
    const seen = () => new Set(member.records.map(found => `${found.partition}/${found.offset}`)).size
    await until(() => seen() === 10 * PARTITIONS, () => `${seen()} records read`)
    const offsets = Array.from({ length: PARTITIONS }, (_, partition) => ({ topic, partition, offset: '10' }))
    await member.consumer.commitOffsets(offsets)
    await members.pop().consumer.disconnect()
    await produce(1)
    members.push(await client.consumer(topic, group))
    const rest = members[0].records
    await until(() => rest.length >= PARTITIONS, () => `${rest.length} of ${PARTITIONS} records came`)
    same('the offsets after the commit', ['10', '10', '10', '10'], rest.map(found => found.offset))
  })
  await step('group-list', () => until(listed, () => 'not listed'))
  await step('group-describe', async () => {
    const found = (await admin.describeGroups([group])).groups[0]
    same('the number of members', 1, found.members.length)
  })
  await step('group-lag', async () => {
    const [committed] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    const ends = await admin.fetchTopicOffsets(topic)
    const at = new Map(committed.partitions.map(found => [found.partition, Number(found.offset)]))
    const lag = ends.reduce((sum, found) => sum + Number(found.high) - at.get(found.partition), 0)
    same('the lag', PARTITIONS, lag)
  })
  for (const member of members) await member.consumer.disconnect()
  await step('group-reset-offsets', async () => {
    await admin.setOffsets({ groupId: group, topic, partitions: [{ partition: 1, offset: '3' }] })
    const [committed] = await admin.fetchOffsets({ groupId: group, topics: [topic] })
    same('the offset', '3', committed.partitions.find(found => found.partition === 1).offset)
  })
  await step('group-delete', async () => {
    await admin.deleteGroups([group])
    await until(async () => !(await listed()), () => 'still listed')
  })
}

module.exports = { groups }
