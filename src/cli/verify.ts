import type { Command } from 'commander'
import { openCluster } from '../compose/open-cluster.ts'
import { describeVerification, verificationExitCode, verifyCluster } from '../compose/verify-cluster.ts'
import type { Finish } from './command-line.ts'
import { clusterCommand, type CommonOptions } from './options.ts'
import { print, printJson } from './output.ts'

export function verifyCommand(finish: Finish): Command {
  return clusterCommand(
    'verify',
    'Compare every node with the directory, while traffic runs: 1 on any difference but counted evictions.',
  ).action(async (options: CommonOptions) => {
    const cluster = await openCluster(options)
    try {
      const verification = await verifyCluster(cluster)
      if (options.json === true) printJson(verification)
      else print(describeVerification(verification).join('\n'))
      finish(verificationExitCode(verification))
    } finally {
      cluster.close()
    }
  })
}
