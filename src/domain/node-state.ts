/** `starting → catching-up | rebuilding → serving → draining → stopped`; reads are answered from memcached while `serving` alone. */
export const nodeStates = ['starting', 'catching-up', 'rebuilding', 'serving', 'draining', 'stopped'] as const
export type NodeState = (typeof nodeStates)[number]
