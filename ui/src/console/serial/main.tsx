import { mount } from '../../shell/mount';
import { ConsolePage } from '../ConsolePage';
import { takeOpening } from '../fragment';

mount(
  <ConsolePage
    kind="serial"
    opening={takeOpening()}
    make={async (place, tools) => new (await import('./driver')).SerialDriver(place, tools)}
  />,
);
