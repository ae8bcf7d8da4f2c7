/** `starting → catching-up | rebuilding → serving → draining → stopped`; reads are answered from memcached while `serving` alone. */
export type NodeState = 'starting' | 'catching-up' | 'rebuilding' | 'serving' | 'draining' | 'stopped'
