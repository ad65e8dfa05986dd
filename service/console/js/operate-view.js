export function startOperate(root) { void root; return { active() {} }; }
