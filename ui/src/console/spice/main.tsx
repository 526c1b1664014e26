import { mount } from '../../shell/mount';
import { ConsolePage } from '../ConsolePage';
import { takeOpening } from '../fragment';

mount(
  <ConsolePage
    kind="spice"
    opening={takeOpening()}
    make={async (place, tools) => new (await import('./driver')).SpiceDriver(place, tools)}
  />,
);
