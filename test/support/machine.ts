import { execFile } from 'node:child_process'
import { existsSync, readFileSync } from 'node:fs'
import { mkdir, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { fileURLToPath } from 'node:url'
import type { CommandResult } from './sandboxes.ts'
import { Program, removeFolder, temporaryFolder, until } from './processes.ts'

/** Why no machine can be made here, or undefined. */
export function whyNoMachines(): string | undefined {
  if (process.getuid?.() !== 0) return 'it takes root to make namespaces'
  for (const program of ['/lib/systemd/systemd', '/usr/bin/unshare', '/usr/bin/nsenter']) {
    if (!existsSync(program)) return `${program} is not there`
  }
  return undefined
}

/**
 * A machine as far as its programs can tell: systemd as process 1, file system (this machine's, with changes of its own), processes, network
 * and name apart from everything else here. It has the packages that are installed here, and neither this checkout nor anybody's home.
 * No service runs but the journal. It ends with this process, however that ends.
 */
export class Machine {
  readonly name: string
  readonly #folder: string
  #program: Program
  #pid = 0

  private constructor(name: string, folder: string) {
    this.name = name
    this.#folder = folder
    this.#program = power(folder, name)
  }

  static async boot(name: string): Promise<Machine> {
    const folder = await temporaryFolder()
    for (const part of ['changes', 'work', 'root', 'given']) await mkdir(join(folder, part))
    await writeFile(join(folder, 'boot.sh'), bootScript)
    const machine = new Machine(name, folder)
    try {
      await machine.#boots()
    } catch (error) {
      await machine.remove()
      throw error
    }
    return machine
  }

  /** Every process dies at once, and its links go. */
  async kill(): Promise<void> {
    await this.#program.stop('SIGKILL')
  }

  /** After a `kill`, with its disk as it was. */
  async bootAgain(): Promise<void> {
    this.#program = power(this.#folder, this.name)
    await this.#boots()
  }

  /** As a boot does once there is a network. */
  async startEnabled(): Promise<void> {
    await this.must('cd /etc/systemd/system/multi-user.target.wants && systemctl start --no-block *')
  }

  async #boots(): Promise<void> {
    try {
      await until(`${this.name} to boot`, () => this.#isUp())
      await this.must('systemd-tmpfiles --create --prefix=/run')
    } catch (error) {
      throw new Error(`${this.name} does not boot: ${this.#program.output}`, { cause: error })
    }
  }

  /** The folder on this machine that is /given there. */
  get given(): string {
    return join(this.#folder, 'given')
  }

  /** Of its first process, as this machine counts. */
  get pid(): number {
    return this.#pid
  }

  /** Runs a shell's command line in the machine, as root. Never rejects. */
  async run(commandLine: string, timeoutMilliseconds = 60_000): Promise<CommandResult> {
    const enter = ['--target', String(this.#pid), '--all', '--root', '--wd', 'env', '-i', ...environment]
    return new Promise((resolve) => {
      const options = { timeout: timeoutMilliseconds, maxBuffer: 64 * 1024 * 1024 }
      execFile('nsenter', [...enter, 'sh', '-c', commandLine], options, (error, stdout, stderr) => {
        const code = error === null ? 0 : typeof error.code === 'number' ? error.code : -1
        resolve({ code, stdout, stderr })
      })
    })
  }

  /** The same, and rejects unless it exits with 0. */
  async must(commandLine: string, timeoutMilliseconds = 60_000): Promise<string> {
    const { code, stdout, stderr } = await this.run(commandLine, timeoutMilliseconds)
    if (code !== 0) throw new Error(`${this.name}: ${commandLine}\nexit code ${code}\n${stdout}${stderr}`)
    return stdout
  }

  async write(path: string, text: string): Promise<void> {
    await writeFile(join(this.#folder, 'given', 'text'), text)
    await this.must(`mkdir -p "$(dirname '${path}')" && cat /given/text >'${path}'`)
  }

  /** A file of this machine becomes `/given/<its name>` there. */
  async give(file: string): Promise<string> {
    const name = file.split('/').at(-1) ?? 'file'
    await writeFile(join(this.#folder, 'given', name), readFileSync(file))
    return `/given/${name}`
  }

  async journal(unit: string): Promise<string> {
    return this.must(`journalctl --no-pager -o cat -u ${unit}`)
  }

  async remove(): Promise<void> {
    await this.kill()
    await removeFolder(this.#folder)
  }

  async #isUp(): Promise<boolean> {
    if (!this.#program.running) throw new Error(this.#program.output)
    const children = `/proc/${this.#program.pid}/task/${this.#program.pid}/children`
    this.#pid = Number(readFileSync(children, 'utf8').trim().split(' ')[0] ?? 0)
    if (this.#pid === 0) return false
    return (await this.run('systemctl is-active --quiet machine.target', 2000)).code === 0
  }
}

/** Without a slash at its end. */
const checkout = fileURLToPath(new URL('../..', import.meta.url)).replace(/\/$/, '')

function power(folder: string, name: string): Program {
  const spaces = ['--fork', '--kill-child', '--pid', '--mount', '--uts', '--ipc', '--net', '--cgroup']
  return new Program('unshare', [...spaces, 'sh', join(folder, 'boot.sh'), folder, name, checkout])
}

const environment = ['PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin', 'HOME=/root', 'LANG=C.UTF-8']

/** $1 the machine's folder on this one, $2 its name, $3 where the checkout is. What the kernel keeps for all (devices, sysctl) is not there or read-only. */
const bootScript = `set -e
folder=$1 name=$2 checkout=$3
mount --make-rprivate /
# volatile: syncs are not waited for. Its disk outlives whatever happens to it here, since this machine goes on.
rm -rf $folder/work/work/incompat
layers=lowerdir=/,upperdir=$folder/changes,workdir=$folder/work
mount -t overlay overlay -o $layers,volatile $folder/root 2>/dev/null || mount -t overlay overlay -o $layers $folder/root
cd $folder/root
mount -t proc proc proc
mount --bind proc/sys proc/sys && mount -o remount,ro,bind proc/sys
mount -t sysfs -o ro sysfs sys
for place in run tmp root work home; do
  [ ! -d $place ] || mount -t tmpfs -o mode=755 tmpfs $place
done
chmod 1777 tmp
[ ! -d ".$checkout" ] || mount -t tmpfs -o mode=755 tmpfs ".$checkout"
mkdir -p given
mount --bind $folder/given given
mount -t tmpfs -o mode=755 tmpfs dev
for device in null zero random urandom tty full; do touch dev/$device; mount --bind /dev/$device dev/$device; done
mkdir dev/shm dev/pts
mount -t tmpfs -o mode=1777 tmpfs dev/shm
mount -t devpts -o newinstance,ptmxmode=0666 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
ln -s /proc/self/fd/0 dev/stdin; ln -s /proc/self/fd/1 dev/stdout; ln -s /proc/self/fd/2 dev/stderr
mount -t tmpfs -o mode=755 tmpfs sys/fs/cgroup
if [ -e /sys/fs/cgroup/cgroup.controllers ]; then mount -t cgroup2 cgroup2 sys/fs/cgroup
else mkdir sys/fs/cgroup/systemd; mount -t cgroup -o none,name=systemd cgroup sys/fs/cgroup/systemd; fi
# What is enabled on this machine is not there.
if [ ! -e etc/booted ]; then
  touch etc/booted
  # Images for containers leave out documents.
  rm -f etc/dpkg/dpkg.cfg.d/docker*
  # Each installation would index all manual pages anew.
  rm -f var/lib/man-db/auto-update
  rm -rf etc/systemd/system/*.wants lib/systemd/system/*.wants usr/sbin/policy-rc.d etc/rc?.d
fi
printf '[Unit]\\nDefaultDependencies=no\\nRequires=systemd-journald.service\\nAfter=systemd-journald.service\\n' >etc/systemd/system/machine.target
printf '[Journal]\\nStorage=volatile\\nForwardToConsole=no\\n' >etc/systemd/journald.conf
: >etc/machine-id
echo $name >etc/hostname
printf '127.0.0.1 localhost\\n' >etc/hosts
hostname $name
ip link set lo up
mkdir -p .before
# Not chroot: systemd makes each service's view from the true root.
pivot_root . .before
cd /
umount -l /.before && rmdir /.before
exec env -i container=lxc PATH=/usr/sbin:/usr/bin:/sbin:/bin /lib/systemd/systemd --system --unit=machine.target --log-target=journal --show-status=0
`
